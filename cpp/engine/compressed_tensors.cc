#include "engine/compressed_tensors.h"

#include <algorithm>
#include <initializer_list>
#include <string>
#include <string_view>
#include <variant>

#include "engine/config_rules.h"

namespace gemmule {
namespace {

constexpr char kAsPublished[] =
    "Use a checkpoint as Google publishes them: 4-bit weights in groups of 32 (its name ends in -qat-w4a16-ct), or the "
    "mobile format (-qat-mobile-transformers, -qat-mobile-ct).";

// `field` is absent, null or one of `names`.
void RequireName(const JsonCursor& of, std::string_view field, std::initializer_list<std::string_view> names,
                 const char* what) {
  const auto name = of.FindNonNull(field);
  if (!name || std::count(names.begin(), names.end(), name->String()) != 0) return;
  std::string expected;
  for (const std::string_view each : names) expected += (expected.empty() ? "" : ", ") + Quoted(each);
  name->Refuse(what, kAsPublished, std::move(expected));
}

void RequireBits(const JsonCursor& scheme, std::initializer_list<std::int64_t> widths) {
  const auto bits = scheme.FindNonNull("num_bits");  // 8 where absent
  if (!bits || std::count(widths.begin(), widths.end(), bits->Int()) != 0) return;
  std::string expected;
  for (const std::int64_t each : widths) expected += (expected.empty() ? "" : ", ") + std::to_string(each);
  bits->Refuse("this number of bits is not run", kAsPublished, std::move(expected));
}

void RequireSymmetric(const JsonCursor& scheme, const char* what) {
  const auto symmetric = scheme.FindNonNull("symmetric");
  if (symmetric && !symmetric->Bool()) symmetric->Refuse(what, kAsPublished, "true");
}

std::size_t GroupSize(const JsonCursor& weights) {
  const auto size = weights.FindNonNull("group_size");
  RequireName(weights, "strategy", {"group", "channel"}, "weights with scales laid out like this are not run");
  const auto strategy = weights.FindNonNull("strategy");
  if (strategy ? strategy->String() == "channel" : size && size->Int() == -1) return 0;
  const JsonCursor given = size ? *size : weights.At("group_size");
  if (given.Int() < 1 || given.Int() > kMaxWidth) {
    given.Fail("a size is out of range", "1 to " + std::to_string(kMaxWidth));
  }
  return static_cast<std::size_t>(given.Int());
}

// Activations that are rounded by the sizes they have at run time need no rounding here: they are kept as they are.
bool IsStatic(const JsonCursor& activations) {
  const auto dynamic = activations.FindNonNull("dynamic");
  return !dynamic || (std::holds_alternative<bool>(dynamic->value().data) && !dynamic->Bool());
}

void RequireStaticInt8(const JsonCursor& activations) {
  RequireBits(activations, {8});
  RequireName(activations, "strategy", {"tensor"}, "activations with scales laid out like this are not run");
  RequireSymmetric(activations, "activations with zero points are not run");
}

}  // namespace

std::vector<std::size_t> ReadCompressedTensors(const JsonCursor& quantization) {
  RequireName(quantization, "format",
              {"pack-quantized", "int-quantized", "naive-quantized", "mixed-precision", "dense"},
              "weights packed like this are not run");
  if (const auto sparsity = quantization.FindNonNull("sparsity_config")) {
    RequireName(*sparsity, "format", {"dense"}, "sparse weights are not run");
  }
  if (const auto transforms = quantization.FindNonNull("transform_config")) {
    const auto groups = transforms->FindNonNull("config_groups");
    if (groups && !groups->Object().empty()) {
      groups->Refuse("rotated weights and activations are not run", kAsPublished, "no transforms");
    }
  }

  std::vector<std::size_t> group_sizes;
  const auto schemes = quantization.FindNonNull("config_groups");
  if (!schemes) return group_sizes;
  for (const JsonMember& member : schemes->Object()) {
    const JsonCursor scheme = schemes->Child(member);
    if (const auto weights = scheme.FindNonNull("weights")) {
      RequireName(*weights, "type", {"int"}, "weights of small floats are not run");
      RequireBits(*weights, {2, 4, 8});
      RequireSymmetric(*weights, "weights with zero points are not run");
      const auto order = weights->FindNonNull("actorder");
      if (order && std::holds_alternative<std::string>(order->value().data)) {
        RequireName(*weights, "actorder", {"weight", "static"}, "weights in an order of their own are not run");
      }
      group_sizes.push_back(GroupSize(*weights));
    }
    for (const char* side : {"input_activations", "output_activations"}) {
      const auto activations = scheme.FindNonNull(side);
      if (!activations || !IsStatic(*activations)) continue;
      RequireName(*activations, "type", {"int"}, "activations of small floats are not run");
      RequireStaticInt8(*activations);
    }
  }
  return group_sizes;
}

}  // namespace gemmule
