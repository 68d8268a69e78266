#pragma once

#include <string>

namespace hopfield::cuda_on_host {

/// A call on a stack of its own, which can pause in its middle and go on later. The thread sanitizer takes each fiber
/// for a thread, which makes one call after another.
class Fiber {
 public:
  Fiber();
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  /// Sets the next call, which begins with the first resume(). The call before has to have ended.
  void start(void (*body)(void*), void* argument, const std::string& name);

  /// Runs the call up to its next pause() or its end.
  void resume();
  static void pause();

  bool ended() const { return ended_; }

 private:
  friend struct Switch;
  void (*body_)(void*) = nullptr;
  void* argument_ = nullptr;
  unsigned char* stack_;
  void* saved_ = nullptr;       // its stack pointer, or its ucontext_t
  void* thread_ = nullptr;      // what the thread sanitizer knows it by
  void* fake_stack_ = nullptr;  // of the address sanitizer
  bool ended_ = true;
};

}  // namespace hopfield::cuda_on_host
