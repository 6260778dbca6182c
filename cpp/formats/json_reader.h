// Reads JSON text value by value, in the file's order, without building a tree: for what is too large for one.
// The grammar is that of json.h, which builds trees with it; duplicate keys are the caller's to refuse.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

namespace gemmule {

// Every call that reads a value takes the next one, and throws FormatError where the text is not JSON or the value is
// of another type. A copy of a reader reads the same text again from where it stands.
class JsonReader {
 public:
  // `text` starts `offset` bytes into `file` (the name for messages). Owns neither.
  JsonReader(std::string_view text, const std::string& file, std::uint64_t offset = 0)
      : text_(text), file_(&file), base_(offset) {}

  // What the next value begins with: { [ " t f n - or a digit; something else where there is no value, 0 at the end.
  char Next() {
    SkipSpace();
    return Peek();
  }
  // Of the next character, in bytes from the file's start.
  std::uint64_t offset() const { return base_ + at_; }
  const std::string& file() const { return *file_; }

  // on_member(key) must read one value. The key is lost when the next string is read.
  template <class OnMember>
  void Object(const OnMember& on_member) {
    Open('{', "an object");
    if (Next() == '}') return Close();
    do {
      if (Next() != '"') Fail("not JSON", "a key in double quotes");
      const std::string_view key = String();
      if (Next() != ':') Fail("not JSON", "a colon");
      ++at_;
      on_member(key);
    } while (TakeComma('}'));
    Close();
  }

  // on_element() must read one value.
  template <class OnElement>
  void Array(const OnElement& on_element) {
    Open('[', "an array");
    if (Next() == ']') return Close();
    do {
      on_element();
    } while (TakeComma(']'));
    Close();
  }

  // Lost when the next string is read.
  std::string_view String();
  // An integer that fits is int64, any other number double (always finite).
  std::variant<std::int64_t, double> Number();
  std::int64_t Int();
  bool Bool();
  void Null();

  // Reads a value of any type and forgets it.
  void Skip();
  // Throws where anything but space follows.
  void End();

  // Throws the FormatError that names the next character, or `found`.
  [[noreturn]] void Fail(const std::string& what, std::string expected) const;
  [[noreturn]] void Fail(const std::string& what, std::string expected, std::string found) const;

 private:
  void Open(char bracket, const char* type);
  void Close() {
    ++at_;
    --depth_;
  }
  // After a member or an element: true where another follows.
  bool TakeComma(char closing);
  void Want(bool right, const char* type);
  void Escape();
  std::uint32_t Hex4();
  void Digits();
  void SkipSpace();

  // The next character, or 0 at the end. A 0 byte in the text fits no rule either, so the two need no telling apart.
  char Peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  bool Take(char c) {
    if (Peek() != c || at_ == text_.size()) return false;
    ++at_;
    return true;
  }
  bool TakeWord(std::string_view word);

  std::string_view text_;
  const std::string* file_;
  std::uint64_t base_;   // of the text, in bytes from the file's start
  std::size_t at_ = 0;   // of the next character, in the text
  int depth_ = 0;        // arrays and objects around it
  std::string escaped_;  // the last string, where it is not in the text as it stands
};

}  // namespace gemmule
