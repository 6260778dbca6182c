// What serves one call at a time.
#pragma once

#include <atomic>
#include <string>

#include "base/error.h"

namespace gemmule {

// Part of an object whose calls may not overlap: a second call while one runs is refused, of another thread's or from
// within the first (a handler of signals may compute).
class Exclusive {
 public:
  // name: of the object, for users ("batch").
  explicit Exclusive(const char* name) : name_(name) {}
  Exclusive(const Exclusive& other) : name_(other.name_) {}  // of a copy of the object, which nobody uses yet
  Exclusive& operator=(const Exclusive&) = delete;

  // For the time of a call. To be made before anything of the object is touched. False where another is alive.
  class Try {
   public:
    explicit Try(Exclusive& object) : object_(object), is_first_(!object.in_use_.exchange(true)) {}
    ~Try() {
      if (is_first_) object_.in_use_ = false;
    }
    Try(const Try&) = delete;
    Try& operator=(const Try&) = delete;
    explicit operator bool() const { return is_first_; }

   private:
    Exclusive& object_;
    const bool is_first_;
  };

  // The same; throws ArgumentError where another is alive.
  class Use {
   public:
    explicit Use(Exclusive& object) : use_(object) {
      if (use_) return;
      const std::string name = object.name_;
      throw ArgumentError("this " + name + " is in use by another call",
                          "Give each thread a " + name + " of its own; the model may be shared.");
    }

   private:
    const Try use_;
  };

 private:
  const char* name_;
  std::atomic<bool> in_use_{false};
};

}  // namespace gemmule
