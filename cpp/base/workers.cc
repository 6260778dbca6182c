#include "base/workers.h"

#include <new>
#include <system_error>

#include "hwy/cache_control.h"

namespace gemmule {
namespace {

// Turns of a waiting loop, about 10 ns each (docs/decisions/0005).
constexpr int kTurnsBeforeSleep = 4000;  // a worker between two jobs of one token
constexpr int kTurnsBeforeYield = 1000;  // the caller, for a piece that another thread holds

constexpr std::uint64_t Index(std::uint64_t job) { return job & 0xFFFF; }
constexpr std::uint64_t Pieces(std::uint64_t job) { return (job >> 16) & 0xFFFF; }
constexpr std::uint64_t Number(std::uint64_t job) { return job >> 32; }

}  // namespace

Workers::Workers(int threads) {
  threads_->reserve(static_cast<std::size_t>(threads - 1));
  for (int i = 1; i < threads; ++i) {
    try {
      threads_->emplace_back([this] { Work(); });
    } catch (const std::system_error&) {
      return;  // the system's limit: those there are do the work
    } catch (const std::bad_alloc&) {
      return;  // likewise; and threads that run must not be left to a vector that ends the program
    }
  }
}

Workers::~Workers() {
  if (left_behind()) {
    // Kept for ever, and not touched: the system's names for these threads may be those of new threads by now.
    [[maybe_unused]] auto* const left = threads_.release();
    return;
  }
  leaving_ = true;
  ++bell_;
  bell_.notify_all();
  for (std::thread& thread : *threads_) thread.join();
}

void Workers::Begin(std::size_t pieces, void (*piece)(const void*, std::size_t), const void* context) {
  // Nobody reads these now: all pieces of the job before are done.
  piece_ = piece;
  context_ = context;
  undone_ = static_cast<std::uint32_t>(pieces);
  job_ = (Number(job_) + 1) << 32 | std::uint64_t{pieces} << 16;
  ++bell_;
  if (sleepers_ != 0) bell_.notify_all();
}

bool Workers::TakePiece() {
  std::uint64_t job = job_;
  do {
    if (Index(job) >= Pieces(job)) return false;
  } while (!job_.compare_exchange_weak(job, job + 1));
  piece_(context_, Index(job));
  --undone_;
  return true;
}

void Workers::Finish() {
  for (int turns = 0; undone_ != 0; ++turns) {
    if (turns < kTurnsBeforeYield) {
      hwy::Pause();
    } else {
      std::this_thread::yield();
    }
  }
}

void Workers::Work() {
  std::uint32_t heard = 0;
  while (!leaving_) {
    while (TakePiece()) {
    }
    for (int turns = 0; turns < kTurnsBeforeSleep && bell_ == heard; ++turns) hwy::Pause();
    if (bell_ == heard) {
      ++sleepers_;
      bell_.wait(heard);
      --sleepers_;
    }
    heard = bell_;
  }
}

}  // namespace gemmule
