// Memory for kernels: aligned to a cache line, zeroed, never copied by accident.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <type_traits>

namespace gemmule {

template <class T>
class Buffer {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  Buffer() = default;
  explicit Buffer(std::size_t size) { Reserve(size); }

  // At least `size` elements. Growing throws away and zeroes what was there; otherwise nothing happens.
  void Reserve(std::size_t size) {
    if (size <= size_) return;
    data_.reset();
    size_ = 0;
    data_.reset(static_cast<T*>(::operator new[](size * sizeof(T), std::align_val_t{kAlignment})));
    std::memset(static_cast<void*>(data_.get()), 0, size * sizeof(T));
    size_ = size;
  }

  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  std::size_t size() const { return size_; }

 private:
  static constexpr std::size_t kAlignment = 64;  // bytes: a cache line, and the widest vector
  struct Free {
    void operator()(T* data) const { ::operator delete[](data, std::align_val_t{kAlignment}); }
  };
  std::unique_ptr<T[], Free> data_;
  std::size_t size_ = 0;
};

// The smallest multiple of `step` that is at least n.
constexpr std::size_t RoundUp(std::size_t n, std::size_t step) { return (n + step - 1) / step * step; }

}  // namespace gemmule
