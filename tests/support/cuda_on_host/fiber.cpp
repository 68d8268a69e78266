#include "cuda_on_host/fiber.h"

#include "cuda_on_host/sanitizers.h"

#include <sys/mman.h>

#include <new>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace hopfield::cuda_on_host {

namespace {

constexpr size_t kStack = 252 * 1024;
constexpr size_t kGuard = 4096;   // below the stack, unreadable
constexpr unsigned kNoOrder = 1;  // __tsan_switch_to_fiber_no_sync

}  // namespace

/// Switches from one stack to another. One launch runs at a time, so there is one scheduler.
struct Switch {
  static Fiber* running;
  static void* scheduler;         // its saved stack pointer, or its ucontext_t
  static void* scheduler_thread;  // what the thread sanitizer knows it by
  static const void* scheduler_stack;
  static size_t scheduler_stack_size;

  [[noreturn]] static void entry();
  static void prepare(Fiber& fiber);
  static void enter(Fiber& fiber);
  static void leave(Fiber& fiber);
};

Fiber* Switch::running = nullptr;
void* Switch::scheduler = nullptr;
void* Switch::scheduler_thread = nullptr;
const void* Switch::scheduler_stack = nullptr;
size_t Switch::scheduler_stack_size = 0;

#if defined(__x86_64__)

// Used in place of swapcontext(), which asks the system for the signal mask: that takes thirty times as long as the
// switch itself, and the address sanitizer then forgets what it knows of the stack. The registers are saved that a
// called function has to preserve.
extern "C" void hopfield_switch_stack(void** saved, void* next);
asm(R"(
.text
.globl hopfield_switch_stack
.type hopfield_switch_stack, @function
hopfield_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size hopfield_switch_stack, . - hopfield_switch_stack
)");

void Switch::prepare(Fiber& fiber) {
  auto** top = reinterpret_cast<void**>(fiber.stack_ + kStack) - 2;  // aligned to 16 bytes
  *--top = nullptr;  // the return address of entry(): stack traces end here
  *--top = reinterpret_cast<void*>(&Switch::entry);
  for (int saved_register = 0; saved_register < 6; ++saved_register) *--top = nullptr;
  fiber.saved_ = top;
}
void Switch::enter(Fiber& fiber) { hopfield_switch_stack(&scheduler, fiber.saved_); }
void Switch::leave(Fiber& fiber) { hopfield_switch_stack(&fiber.saved_, scheduler); }

#else

void Switch::prepare(Fiber& fiber) {
  const size_t room = (sizeof(ucontext_t) + 63) / 64 * 64;  // at the stack's upper end
  auto* context = new (fiber.stack_ + kStack - room) ucontext_t;
  getcontext(context);
  context->uc_stack.ss_sp = fiber.stack_, context->uc_stack.ss_size = kStack - room, context->uc_link = nullptr;
  makecontext(context, &Switch::entry, 0);
  fiber.saved_ = context;
}
void Switch::enter(Fiber& fiber) {
  ucontext_t here;
  scheduler = &here;
  swapcontext(&here, static_cast<ucontext_t*>(fiber.saved_));
}
void Switch::leave(Fiber& fiber) {
  swapcontext(static_cast<ucontext_t*>(fiber.saved_), static_cast<ucontext_t*>(scheduler));
}

#endif

void Switch::entry() {
  if (__sanitizer_finish_switch_fiber) {
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_stack_size);
  }
  Fiber& fiber = *running;
  fiber.body_(fiber.argument_);
  fiber.ended_ = true;
  Fiber::pause();
  __builtin_unreachable();
}

Fiber::Fiber() {
  void* memory =
      mmap(nullptr, kGuard + kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  mprotect(memory, kGuard, PROT_NONE);
  stack_ = static_cast<unsigned char*>(memory) + kGuard;
  if (__tsan_create_fiber) thread_ = __tsan_create_fiber(0);
}

Fiber::~Fiber() {
  if (thread_) __tsan_destroy_fiber(thread_);
  munmap(stack_ - kGuard, kGuard + kStack);
}

void Fiber::start(void (*body)(void*), void* argument, const std::string& name) {
  body_ = body, argument_ = argument, ended_ = false;
  if (thread_) __tsan_set_fiber_name(thread_, name.c_str());
  Switch::prepare(*this);
}

void Fiber::resume() {
  Switch::running = this;
  void* fake_stack = nullptr;
  if (__sanitizer_start_switch_fiber) __sanitizer_start_switch_fiber(&fake_stack, stack_, kStack);
  if (__tsan_switch_to_fiber) {
    Switch::scheduler_thread = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(thread_, kNoOrder);
  }
  Switch::enter(*this);
  if (__sanitizer_finish_switch_fiber) __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
}

void Fiber::pause() {
  Fiber& fiber = *Switch::running;
  if (__sanitizer_start_switch_fiber) {
    __sanitizer_start_switch_fiber(fiber.ended_ ? nullptr : &fiber.fake_stack_, Switch::scheduler_stack,
                                   Switch::scheduler_stack_size);
  }
  if (__tsan_switch_to_fiber) __tsan_switch_to_fiber(Switch::scheduler_thread, kNoOrder);
  Switch::leave(fiber);
  if (__sanitizer_finish_switch_fiber) {
    __sanitizer_finish_switch_fiber(fiber.fake_stack_, &Switch::scheduler_stack, &Switch::scheduler_stack_size);
  }
}

}  // namespace hopfield::cuda_on_host
