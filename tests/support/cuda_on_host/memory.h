#pragma once

// Global memory: the host bodies of kernels/cuda/memory.h.

#include "cuda_on_host/device.h"

#include <cstdint>
#include <cstring>

namespace hopfield::cuda_on_host {

template <class Pack>
Pack load16(const void* source) {
  require_aligned(source, 16, "16 bytes are read at a multiple of 16 bytes");
  Pack pack;
  std::memcpy(&pack, source, 16);
  return pack;
}

template <class Pack>
void store16(void* target, const Pack& pack) {
  require_aligned(target, 16, "16 bytes are written at a multiple of 16 bytes");
  std::memcpy(target, &pack, 16);
}

template <class T>
T load_relaxed(const T* source) {
  T value;
  __atomic_load(source, &value, __ATOMIC_RELAXED);
  return value;
}

template <class T>
T load_fresh(const T* source) {
  note_spin();
  return load_relaxed(source);
}

template <class T>
void store_relaxed(T* target, T value) {
  __atomic_store(target, &value, __ATOMIC_RELAXED);
}

template <class T>
T atomic_add(T* target, T value) {
  T before = load_relaxed(target), after = before + value;
  while (!__atomic_compare_exchange(target, &before, &after, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    after = before + value;
  }
  return before;
}

template <class T>
T atomic_max(T* target, T value) {
  T before = load_relaxed(target);
  while (before < value &&
         !__atomic_compare_exchange(target, &before, &value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
  return before;
}

}  // namespace hopfield::cuda_on_host
