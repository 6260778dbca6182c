#include "engine/compare.h"

#include <algorithm>
#include <string>

#include "base/error.h"
#include "engine/pass.h"
#include "kernels/kl_divergence.h"
#include "kernels/largest.h"
#include "kernels/log_sum_exp.h"

namespace gemmule {
namespace {

// The id with the largest logit, of equals the lowest.
std::ptrdiff_t Top(std::span<const float> logits) {
  return std::find(logits.begin(), logits.end(), Largest(logits)) - logits.begin();
}

}  // namespace

void Compare(Decoder& model, Decoder& reference, std::span<const std::int32_t> ids, std::size_t first,
             const Comparison& out, const Parallel::StopCheck& stop) {
  const std::size_t v = model.model().config.vocab_size;
  if (reference.model().config.vocab_size != v) {
    throw ArgumentError("the model has " + std::to_string(v) + " token ids, the reference " +
                        std::to_string(reference.model().config.vocab_size));
  }
  const std::size_t wanted = ids.size() - first + 1;
  Decoder::Pass pass(model, ids, wanted, stop);
  Decoder::Pass reference_pass(reference, ids, wanted, stop);
  for (;;) {
    // The model second: its threads, which take the rows, are still awake then.
    const auto reference_rows = reference_pass.Next();
    const auto rows = pass.Next();
    if (rows.count == 0) return;
    pass.For(rows.count, 4.0 * static_cast<double>(v), [&](std::size_t i) {
      const std::size_t next = rows.first + i + 1;
      if (next == ids.size()) return;
      const std::span<const float> logits(rows.logits + i * v, v);
      const std::span<const float> reference_logits(reference_rows.logits + i * v, v);
      const double lse = LogSumExp(logits);
      const double reference_lse = LogSumExp(reference_logits);
      const auto token = static_cast<std::size_t>(ids[next]);
      out.nll[next - first] = lse - logits[token];
      out.reference_nll[next - first] = reference_lse - reference_logits[token];
      out.kl[next - first] = KlDivergence(reference_logits, reference_lse, logits, lse);
      out.same_top[next - first] = Top(logits) == Top(reference_logits);
    });
  }
}

}  // namespace gemmule
