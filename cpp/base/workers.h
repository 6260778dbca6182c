// Threads that wait for work: started once, shared by all conversations of a model.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "base/exclusive.h"
#include "base/forks.h"

namespace gemmule {

// A job is cut into pieces that threads take in turn. The calling thread takes pieces too and waits only for threads
// that hold one: a thread that wakes late, or that another program keeps from running, delays nobody. A forked child,
// in which there are no other threads, does all pieces on the calling one.
class Workers {
 public:
  static constexpr std::size_t kMaxPieces = 0xFFFF;

  // `threads` includes the calling one. Where the system grants fewer, there are fewer.
  explicit Workers(int threads);
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  int threads() const { return static_cast<int>(threads_->size()) + 1; }

  // Whether the threads stayed behind in another process, of which this one is a fork.
  bool left_behind() const { return forks_ != Forks(); }

  // Calls piece(context, i) for all i < pieces <= kMaxPieces, each on some thread; between its own pieces the calling
  // thread calls `between`. While another job runs, the caller does all of its own pieces.
  template <class Between>
  void Run(std::size_t pieces, void (*piece)(const void*, std::size_t), const void* context, const Between& between) {
    const Exclusive::Try use(in_use_);
    if (!use || threads_->empty() || pieces == 1 || left_behind()) {
      for (std::size_t i = 0; i < pieces; ++i) {
        piece(context, i);
        between();
      }
      return;
    }
    Begin(pieces, piece, context);
    while (TakePiece()) between();
    Finish();
  }

 private:
  void Begin(std::size_t pieces, void (*piece)(const void*, std::size_t), const void* context);
  // Does one piece of the current job; false: none is left.
  bool TakePiece();
  // Waits until the pieces that others took are done.
  void Finish();
  void Work();

  // The current job: its number (32 bits), its pieces (16) and the next one to take (16). A piece is taken by adding
  // one to the whole, which fails when the job has changed meanwhile.
  std::atomic<std::uint64_t> job_{0};
  void (*piece_)(const void*, std::size_t) = nullptr;  // valid while a piece is undone
  const void* context_ = nullptr;
  std::atomic<std::uint32_t> undone_{0};    // pieces
  std::atomic<std::uint32_t> bell_{0};      // changes with every job, and at the end
  std::atomic<std::uint32_t> sleepers_{0};  // threads that wait for the bell
  std::atomic<bool> leaving_{false};
  Exclusive in_use_{"team"};  // by one calling thread
  std::unique_ptr<std::vector<std::thread>> threads_ = std::make_unique<std::vector<std::thread>>();
  const std::uint32_t forks_ = Forks();  // when they were started
};

}  // namespace gemmule
