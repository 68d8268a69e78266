#include "io/safetensors_header.h"

#include <c10/util/Exception.h>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <limits>
#include <unordered_set>
#include <utility>

namespace hopfield::io::detail {
namespace {

constexpr const char* kMetadataKey = "__metadata__";

/// In the order of the format, by the size of an element, so that every tensor is aligned.
constexpr std::array<std::pair<const char*, at::ScalarType>, 19> kDtypes{{
    {"BOOL", at::ScalarType::Bool},
    {"U8", at::ScalarType::Byte},
    {"I8", at::ScalarType::Char},
    {"F8_E5M2", at::ScalarType::Float8_e5m2},
    {"F8_E4M3", at::ScalarType::Float8_e4m3fn},
    {"F8_E8M0", at::ScalarType::Float8_e8m0fnu},
    {"F8_E4M3FNUZ", at::ScalarType::Float8_e4m3fnuz},
    {"F8_E5M2FNUZ", at::ScalarType::Float8_e5m2fnuz},
    {"I16", at::ScalarType::Short},
    {"U16", at::ScalarType::UInt16},
    {"F16", at::ScalarType::Half},
    {"BF16", at::ScalarType::BFloat16},
    {"I32", at::ScalarType::Int},
    {"U32", at::ScalarType::UInt32},
    {"F32", at::ScalarType::Float},
    {"C64", at::ScalarType::ComplexFloat},
    {"F64", at::ScalarType::Double},
    {"I64", at::ScalarType::Long},
    {"U64", at::ScalarType::UInt64},
}};

/// Builds a header from the events of a JSON parser. It refuses everything that is not part of the format, so that no
/// other JSON is ever held in memory.
class HeaderReader final : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit HeaderReader(const std::string& where) : where_(where) {}

  SafetensorsHeader take() { return std::move(header_); }

  bool null() override { refuse("null"); }
  bool boolean(bool value) override { refuse(value ? "true" : "false"); }
  bool number_integer(number_integer_t value) override { refuse(std::to_string(value)); }
  bool number_float(number_float_t, const string_t& text) override { refuse(shortened(text)); }
  bool binary(binary_t&) override { refuse("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (numbers_ == nullptr || value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      refuse(std::to_string(value));
    }
    if (numbers_->size() == limit_of_numbers()) refuse("more than " + std::to_string(limit_of_numbers()) + " numbers");
    numbers_->push_back(static_cast<int64_t>(value));
    return true;
  }

  bool string(string_t& value) override {
    if (place_ == Place::metadata) {
      header_.metadata[key_] = std::move(value);
    } else if (place_ == Place::tensor && key_ == "dtype" && numbers_ == nullptr) {
      const auto row =
          std::find_if(kDtypes.begin(), kDtypes.end(), [&](const auto& known) { return value == known.first; });
      TORCH_CHECK(row != kDtypes.end(), where_, "expected dtype of tensor ", quote(entry_.name), " to be one of ",
                  supported_dtypes(), ", got ", quote(value));
      entry_.dtype = row->second;
    } else {
      refuse("the string " + quote(value));
    }
    return true;
  }

  bool start_object(std::size_t) override {
    switch (place_) {
      case Place::file:
        place_ = Place::entries;
        return true;
      case Place::entries:
        place_ = entry_.name == kMetadataKey ? Place::metadata : Place::tensor;
        return true;
      default:
        refuse("an object");
    }
  }

  bool key(string_t& name) override {
    if (place_ == Place::entries) {
      TORCH_CHECK(names_.insert(name).second, where_, "expected every name once, got ", quote(name), " twice");
      entry_ = {};
      entry_.name = std::move(name);
      shape_.reset();
      offsets_.reset();
      return true;
    }
    key_ = std::move(name);
    if (place_ == Place::metadata) {
      TORCH_CHECK(header_.metadata.count(key_) == 0, where_, "expected every key of __metadata__ once, got ",
                  quote(key_), " twice");
      return true;
    }
    const bool known = key_ == "dtype" || key_ == "shape" || key_ == "data_offsets";
    TORCH_CHECK(known, where_, "expected tensor ", quote(entry_.name),
                " to have the fields dtype, shape and data_offsets, got ", quote(key_));
    const bool repeated = (key_ == "dtype" && entry_.dtype != at::ScalarType::Undefined) ||
                          (key_ == "shape" && shape_) || (key_ == "data_offsets" && offsets_);
    TORCH_CHECK(!repeated, where_, "expected tensor ", quote(entry_.name), " to have one ", key_, ", got two");
    return true;
  }

  bool end_object() override {
    if (place_ == Place::tensor) finish_tensor();
    place_ = place_ == Place::entries ? Place::end : Place::entries;
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ != Place::tensor || key_ == "dtype" || numbers_ != nullptr) refuse("an array");
    numbers_ = &(key_ == "shape" ? shape_ : offsets_).emplace();
    return true;
  }

  bool end_array() override {
    numbers_ = nullptr;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception& error) override {
    TORCH_CHECK(false, where_, "expected the header to be valid JSON, got an error at byte ",
                sizeof(uint64_t) + std::max<std::size_t>(position, 1) - 1, " of the file: ", shortened(error.what()));
  }

 private:
  enum class Place { file, entries, metadata, tensor, end };

  static std::string shortened(const std::string& text) {
    return text.size() > 300 ? text.substr(0, 300) + "..." : text;
  }

  size_t limit_of_numbers() const { return key_ == "shape" ? kMaxDimensions : 2; }

  std::string expected() const {
    switch (place_) {
      case Place::entries:
        return quote(entry_.name) + (entry_.name == kMetadataKey
                                         ? " to be an object of strings"
                                         : " to be an object with dtype, shape and data_offsets");
      case Place::metadata:
        return quote(key_) + " of __metadata__ to be a string";
      case Place::tensor:
        return key_ + " of tensor " + quote(entry_.name) +
               (key_ == "dtype" ? " to be a string"
                                : " to be an array of " + std::string(key_ == "shape" ? "up to " : "") +
                                      std::to_string(limit_of_numbers()) + " integers between 0 and 2^63 - 1");
      default:
        return "the header to be one object";
    }
  }

  [[noreturn]] void refuse(const std::string& got) const {
    TORCH_CHECK(false, where_, "expected ", expected(), ", got ", got);
  }

  void finish_tensor() {
    const auto check_present = [&](bool present, const char* field) {
      TORCH_CHECK(present, where_, "expected tensor ", quote(entry_.name),
                  " to have the fields dtype, shape and data_offsets, got no ", field);
    };
    check_present(entry_.dtype != at::ScalarType::Undefined, "dtype");
    check_present(shape_.has_value(), "shape");
    check_present(offsets_.has_value(), "data_offsets");
    TORCH_CHECK(offsets_->size() == 2, where_, "expected data_offsets of tensor ", quote(entry_.name),
                " to be an array of 2 integers, got ", offsets_->size());
    entry_.shape = std::move(*shape_);
    entry_.begin = static_cast<uint64_t>(offsets_->front());
    entry_.end = static_cast<uint64_t>(offsets_->back());
    header_.tensors.push_back(std::move(entry_));
  }

  const std::string& where_;
  SafetensorsHeader header_;
  std::unordered_set<std::string> names_;
  Place place_ = Place::file;
  TensorEntry entry_;
  std::string key_;
  std::optional<std::vector<int64_t>> shape_, offsets_;
  std::vector<int64_t>* numbers_ = nullptr;  ///< the array being read
};

/// Checks that each tensor has as many bytes as its shape needs, and that its bytes begin where the previous tensor's
/// end.
void check_layout(const std::vector<TensorEntry>& tensors, uint64_t data_bytes, const std::string& where) {
  uint64_t covered = 0;
  for (const auto& entry : tensors) {
    const auto name = quote(entry.name);
    TORCH_CHECK(entry.begin <= entry.end && entry.end <= data_bytes, where, "expected data_offsets of tensor ", name,
                " to rise and to end within the ", data_bytes, " bytes after the header, got [", entry.begin, ", ",
                entry.end, "]");
    const auto bytes = byte_size(entry.shape, entry.dtype);
    TORCH_CHECK(bytes.has_value(), where, "expected the size of tensor ", name, " to fit 63 bits, got shape ",
                c10::IntArrayRef(entry.shape), " of type ", entry.dtype);
    TORCH_CHECK(*bytes == entry.end - entry.begin, where, "expected tensor ", name, " of shape ",
                c10::IntArrayRef(entry.shape), " and type ", entry.dtype, " to have ", *bytes,
                " bytes, got data_offsets [", entry.begin, ", ", entry.end, "]");
    TORCH_CHECK(entry.begin == covered, where, "expected tensor ", name, " to begin at data offset ", covered,
                ", where the one before ends, got ", entry.begin, entry.begin < covered ? " (overlap)" : " (hole)");
    covered = entry.end;
  }
  TORCH_CHECK(covered == data_bytes, where, "expected the tensors to cover the ", data_bytes,
              " bytes after the header, got ", covered);
}

}  // namespace

std::optional<size_t> dtype_rank(at::ScalarType dtype) {
  const auto row =
      std::find_if(kDtypes.begin(), kDtypes.end(), [&](const auto& known) { return known.second == dtype; });
  if (row == kDtypes.end()) return std::nullopt;
  return static_cast<size_t>(row - kDtypes.begin());
}

std::string supported_dtypes() {
  std::string names;
  for (const auto& [name, dtype] : kDtypes) names += names.empty() ? name : std::string(" ") + name;
  return names;
}

std::optional<uint64_t> byte_size(const std::vector<int64_t>& shape, at::ScalarType dtype) {
  // Sizes of 0 are left out of the product. LibTorch leaves them out of the strides, which must not overflow either.
  auto bytes = static_cast<int64_t>(c10::elementSize(dtype));
  bool empty = false;
  for (const auto size : shape) {
    empty |= size == 0;
    if (size == 0) continue;
    if (bytes > std::numeric_limits<int64_t>::max() / size) return std::nullopt;
    bytes *= size;
  }
  return empty ? 0 : static_cast<uint64_t>(bytes);
}

SafetensorsHeader parse_header(const std::string& json, uint64_t data_bytes, const std::string& where) {
  TORCH_CHECK(
      !json.empty() && json.front() == '{', where, "expected the header to begin with '{', got ",
      json.empty() ? std::string("no header") : "byte " + std::to_string(static_cast<unsigned char>(json.front())));
  // The JSON parser would take a NUL for the end of the text.
  const auto nul = json.find('\0');
  TORCH_CHECK(nul == std::string::npos, where, "expected the header to be valid JSON, got NUL at byte ",
              sizeof(uint64_t) + nul, " of the file");
  HeaderReader reader(where);
  nlohmann::json::sax_parse(json, &reader);
  auto header = reader.take();
  std::stable_sort(header.tensors.begin(), header.tensors.end(), [](const TensorEntry& a, const TensorEntry& b) {
    return std::make_pair(a.begin, a.end) < std::make_pair(b.begin, b.end);
  });
  check_layout(header.tensors, data_bytes, where);
  return header;
}

std::string format_header(const SafetensorsHeader& header, const std::string& where) {
  std::string text;
  const auto append = [&](const std::string& key, const nlohmann::ordered_json& value) {
    text += (text.empty() ? "{" : ",") + nlohmann::json(key).dump() + ":" + value.dump();
  };
  try {
    if (!header.metadata.empty()) append(kMetadataKey, header.metadata);
    for (const auto& entry : header.tensors) {
      TORCH_CHECK(entry.name != kMetadataKey, where, "expected tensor names other than ", quote(kMetadataKey),
                  ", which the format reserves");
      append(entry.name, {{"dtype", kDtypes[dtype_rank(entry.dtype).value()].first},
                          {"shape", entry.shape},
                          {"data_offsets", {entry.begin, entry.end}}});
    }
  } catch (const nlohmann::json::type_error& error) {
    TORCH_CHECK(false, where, "expected names and metadata to be valid UTF-8, got ", error.what());
  }
  text += text.empty() ? "{}" : "}";
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return text;
}

std::string quote(const std::string& name) {
  constexpr size_t kShown = 100;
  auto end = std::min(name.size(), kShown);
  // Do not cut in the middle of a UTF-8 character.
  while (end > 0 && end < name.size() && (static_cast<unsigned char>(name[end]) & 0xC0) == 0x80) --end;
  auto shown = name.substr(0, end);
  std::replace_if(
      shown.begin(), shown.end(), [](unsigned char character) { return character < ' ' || character == 0x7F; }, '?');
  if (end == name.size()) return "'" + shown + "'";
  return "'" + shown + "...' (" + std::to_string(name.size()) + " bytes)";
}

}  // namespace hopfield::io::detail
