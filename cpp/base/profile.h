// Where the time of one calling thread goes: laps of a clock, each booked on a place.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace gemmule {

class Profile {
 public:
  // Sums of all laps that were booked on one place.
  struct Place {
    double seconds = 0.0;
    double waiting_seconds = 0.0;  // of these, for other threads at the ends of parallel regions
    std::uint64_t regions = 0;     // parallel regions
  };

  explicit Profile(std::size_t places) : places_(places) {}

  // The first lap begins.
  void Start() {
    lap_ = Clock::now();
    waiting_ = {};
    regions_ = 0;
  }

  // The lap is over, the next one begins.
  void Book(std::size_t place) {
    const Clock::time_point now = Clock::now();
    Place& to = places_[place];
    to.seconds += Seconds(now - lap_);
    to.waiting_seconds += Seconds(waiting_);
    to.regions += regions_;
    lap_ = now;
    waiting_ = {};
    regions_ = 0;
  }

  // A parallel region: its begin, the end of each piece that the calling thread does, its end.
  void BeginRegion() { busy_until_ = Clock::now(); }
  void EndPiece() { busy_until_ = Clock::now(); }
  void EndRegion() {
    waiting_ += Clock::now() - busy_until_;
    ++regions_;
  }

  const std::vector<Place>& places() const { return places_; }

 private:
  using Clock = std::chrono::steady_clock;
  static double Seconds(Clock::duration time) { return std::chrono::duration<double>(time).count(); }

  std::vector<Place> places_;
  Clock::time_point lap_;
  Clock::time_point busy_until_;
  Clock::duration waiting_{};  // of this lap
  std::uint64_t regions_ = 0;  // of this lap
};

}  // namespace gemmule
