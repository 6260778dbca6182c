#include "base/parallel.h"

#include <omp.h>

namespace gemmule {

void Parallel::Run(std::size_t pieces, bool alone, void (*piece)(const void*, std::size_t), const void* context) {
  std::atomic<std::size_t> next{0};
  const auto work = [&](bool asks) {
    while (!stopped()) {
      const std::size_t i = next.fetch_add(1, std::memory_order_relaxed);
      if (i >= pieces) return;
      piece(context, i);
      if (asks && stop_ && stop_()) stopped_.store(true, std::memory_order_relaxed);
    }
  };
  if (alone) return work(true);
#pragma omp parallel num_threads(threads_)
  work(omp_get_thread_num() == 0);
}

}  // namespace gemmule
