#include "text/tokenizer_json.h"

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/error.h"
#include "formats/json.h"
#include "formats/mapped_file.h"
#include "formats/stand_in.h"
#include "text/merge_list.h"

namespace gemmule {
namespace {

constexpr char kRemedy[] = "Use the tokenizer.json published with a Gemma checkpoint.";

// Bytes of the file after which what was read is given back: the file is larger than all that is made of it.
constexpr std::uint64_t kForgetBytes = std::uint64_t{1} << 22;

// What a file may say of the steps that we take as Gemma does. A key that is missing is null.
struct Step {
  const char* key;
  const char* gemma;            // JSON
  const char* other = nullptr;  // JSON that means the same
};
constexpr Step kSteps[] = {
    {"normalizer", R"({"type":"Replace","pattern":{"String":" "},"content":"▁"})"},
    // It splits at spaces, and the normalizer has left none.
    {"pre_tokenizer", R"({"type":"Split","pattern":{"String":" "},"behavior":"MergedWithPrevious","invert":false})",
     "null"},
    {"decoder", R"({"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},)"
                R"({"type":"ByteFallback"},{"type":"Fuse"}]})"},
};
constexpr Step kModelSteps[] = {
    {"type", R"("BPE")"},
    {"dropout", "null", "0.0"},
    {"continuing_subword_prefix", "null", R"("")"},
    {"end_of_word_suffix", "null", R"("")"},
    {"byte_fallback", "true"},
    {"ignore_merges", "false", "null"},
};

// Whether two trees say the same: the order of an object's members means nothing.
bool Same(const JsonValue& a, const JsonValue& b) {
  if (a.data.index() != b.data.index()) return false;
  if (const auto* array = std::get_if<JsonValue::Array>(&a.data)) {
    const auto& other = std::get<JsonValue::Array>(b.data);
    return std::equal(array->begin(), array->end(), other.begin(), other.end(), Same);
  }
  if (const auto* object = std::get_if<JsonValue::Object>(&a.data)) {
    const auto& other = std::get<JsonValue::Object>(b.data);
    return object->size() == other.size() && std::all_of(object->begin(), object->end(), [&](const JsonMember& member) {
             return std::any_of(other.begin(), other.end(), [&](const JsonMember& twin) {
               return twin.key == member.key && Same(twin.value, member.value);
             });
           });
  }
  return std::visit(
      [&]<class T>(const T& value) {
        if constexpr (std::is_same_v<T, JsonValue::Array> || std::is_same_v<T, JsonValue::Object>) {
          return false;  // not here: compared above
        } else {
          return value == std::get<T>(b.data);
        }
      },
      a.data);
}

// What messages show of a step: the types that it names, its own and those inside it.
std::string Types(const JsonValue& value) {
  std::string types;
  const auto add = [&](const std::string& more) {
    if (!more.empty()) types += (types.empty() ? "" : ", ") + more;
  };
  if (const auto* object = std::get_if<JsonValue::Object>(&value.data)) {
    for (const JsonMember& member : *object) {
      const auto* text = std::get_if<std::string>(&member.value.data);
      if (!text) add(Types(member.value));
      if (text && member.key == "type") add(Quoted(*text));
    }
  } else if (const auto* array = std::get_if<JsonValue::Array>(&value.data)) {
    for (const JsonValue& element : *array) add(Types(element));
  }
  return types;
}

void RefuseOtherSteps(const JsonCursor& object, std::span<const Step> steps) {
  static const JsonValue kMissing;
  for (const Step& step : steps) {
    const auto found = object.Find(step.key);
    const JsonValue& value = found ? found->value() : kMissing;
    const auto is = [&](const char* json) { return Same(value, ParseJson(json, step.key)); };
    if (is(step.gemma) || (step.other && is(step.other))) continue;
    const auto* text = std::get_if<std::string>(&value.data);
    const std::string types = text ? Quoted(*text) : Types(value);
    throw UnsupportedError(
        "a tokenizer that is not Gemma's", kRemedy,
        {.file = object.file(),
         .tensor = found ? found->path() : object.path() + (object.path().empty() ? "" : ".") + step.key,
         .offset = found ? std::optional(value.offset) : std::nullopt,
         .expected = step.gemma,
         .found = !found          ? "no such key"
                  : types.empty() ? "another value"
                                  : types});
  }
}

class Reading {
 public:
  explicit Reading(const MappedFile& file)
      : map_(file),
        reader_({reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()}, file.path()),
        vocabulary_(file.path()),
        file_(file.path()) {}

  Tokenizer Run() {
    const JsonValue root = ReadJsonObject(reader_, [&](const std::string& key) {
      return key == "model" && reader_.Next() == '{' ? Model() : ReadJsonValue(reader_, values_left_);
    });
    reader_.End();
    const JsonCursor cursor(root, file_);
    const JsonCursor model = cursor.At("model");
    RefuseOtherSteps(model, kModelSteps);
    RefuseOtherSteps(cursor, kSteps);
    model.At("vocab").Object();
    model.At("merges").Array();
    if (late_merges_) Merges(*late_merges_);
    if (const auto added = cursor.FindNonNull("added_tokens")) {
      for (std::size_t i = 0; i < added->Array().size(); ++i) Added(added->Child(i));
    }
    vocabulary_.Finish();
    return Tokenizer(std::move(vocabulary_), std::move(merges_));
  }

 private:
  // The model without its vocabulary and merges, of which only the types are left.
  JsonValue Model() {
    return ReadJsonObject(reader_, [&](const std::string& key) {
      const char next = reader_.Next();
      if (key == "vocab" && next == '{') {
        reader_.Object([&](std::string_view text) { vocabulary_.Add(reader_.Int(), text); });
        vocabulary_.Index();
        return JsonValue{JsonValue::Object(), reader_.offset()};
      }
      if (key == "merges" && next == '[') {
        if (vocabulary_.size() != 0) {
          Merges(reader_);
        } else {  // keys in alphabetical order: the vocabulary is still to come
          late_merges_ = reader_;
          reader_.Skip();
        }
        return JsonValue{JsonValue::Array(), reader_.offset()};
      }
      return ReadJsonValue(reader_, values_left_);
    });
  }

  void Merges(JsonReader& reader) {
    MergeList merges(vocabulary_);
    std::uint64_t forget = kForgetBytes;
    reader.Array([&] {
      if (reader.offset() > forget) {
        map_.ForgetPages(map_.bytes().first(reader.offset()));
        forget = reader.offset() + kForgetBytes;
      }
      if (reader.Next() == '"') {
        JoinedMerge(reader, merges);
      } else {
        SplitMerge(reader, merges);
      }
    });
    merges_ = merges.Finish();
  }

  // ["a", "b"]
  void SplitMerge(JsonReader& reader, MergeList& merges) {
    std::size_t count = 0;
    reader.Array([&] {
      if (count == 2) reader.Fail("a merge of more than two tokens", "two tokens");
      if (count++ == 0) {
        left_ = reader.String();
      } else {
        merges.Add(left_, reader.String());
      }
    });
    if (count != 2) reader.Fail("a merge of fewer than two tokens", "two tokens", std::to_string(count));
  }

  // "a b", as older files have it
  static void JoinedMerge(JsonReader& reader, MergeList& merges) {
    const std::string_view text = reader.String();
    const std::size_t space = text.find(' ');
    if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos) {
      reader.Fail("not a merge", "two tokens with a space between", Quoted(text));
    }
    merges.Add(text.substr(0, space), text.substr(space + 1));
  }

  void Added(const JsonCursor& token) {
    for (const char* key : {"single_word", "lstrip", "rstrip", "normalized"}) {
      const auto flag = token.FindNonNull(key);
      if (!flag || !flag->Bool()) continue;
      throw UnsupportedError("an added token that looks at more than its own text", kRemedy,
                             {.file = file_, .tensor = flag->path(), .expected = "false", .found = "true"});
    }
    const JsonCursor content = token.At("content");
    const JsonCursor id = token.At("id");
    const TokenId known = vocabulary_.Find(content.String());
    if (known == kNoToken) {
      vocabulary_.Add(id.Int(), content.String());
      vocabulary_.Index();
    } else if (known != id.Int()) {
      id.Fail("an added token has two ids", std::to_string(known) + ", as in the vocabulary");
    }
    const auto special = token.FindNonNull("special");
    vocabulary_.SetKind(static_cast<TokenId>(id.Int()),
                        special && special->Bool() ? TokenKind::kControl : TokenKind::kUserDefined);
  }

  const MappedFile& map_;
  JsonReader reader_;
  std::optional<JsonReader> late_merges_;  // where they stand before the vocabulary
  Vocabulary vocabulary_;
  RankedMerges merges_;
  std::string left_;                          // token of a merge
  std::size_t values_left_ = kMaxJsonValues;  // of all that is kept as a tree
  const std::string& file_;
};

}  // namespace

Tokenizer ReadTokenizerJson(const std::string& path) {
  const MappedFile file = MappedFile::Open(path);
  RefuseStandIn(file);
  Tokenizer tokenizer = Reading(file).Run();
  file.CheckWhole();
  return tokenizer;
}

}  // namespace gemmule
