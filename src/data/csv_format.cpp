#include "data/csv_format.h"

#include <utility>

namespace hopfield::data::detail {
namespace {

using namespace std::string_view_literals;

constexpr auto kUtf16 = "UTF-16 text; save it as UTF-8, for example with iconv -f UTF-16 -t UTF-8"sv;

struct Format {
  size_t position;
  std::string_view bytes, words;
};

constexpr Format kFormats[] = {
    {0, "\xFF\xFE\0\0"sv, "UTF-32 text; save it as UTF-8, for example with iconv -f UTF-32 -t UTF-8"},
    {0, "\0\0\xFE\xFF"sv, "UTF-32 text; save it as UTF-8, for example with iconv -f UTF-32 -t UTF-8"},
    {0, "\xFF\xFE"sv, kUtf16},
    {0, "\xFE\xFF"sv, kUtf16},
    {0, "\x1F\x8B"sv, "a gzip file; unpack it, for example with gunzip"},
    {4, "1AY&SY"sv, "a bzip2 file; unpack it, for example with bunzip2"},
    {0,
     "\xFD"
     "7zXZ\0"sv,
     "an xz file; unpack it, for example with unxz"},
    {0, "\x28\xB5\x2F\xFD"sv, "a zstd file; unpack it, for example with unzstd"},
    {0, "PK\x03\x04"sv, "a zip archive or a spreadsheet; unpack it, or export it as CSV"},
    {0, "\xD0\xCF\x11\xE0"sv, "a spreadsheet; export it as CSV"},
};

/// Counts a delimiter outside quotes. A tab that follows a comma or a semicolon counts as a blank.
int64_t count_delimiters(std::string_view line, char delimiter) {
  int64_t count = 0;
  bool quoted = false;
  char before = 0;
  for (const char character : line) {
    if (character == '"') quoted = !quoted;
    const bool is_blank = delimiter == '\t' && (before == ',' || before == ';');
    if (character == delimiter && !quoted && !is_blank) ++count;
    before = character;
  }
  return count;
}

}  // namespace

std::string_view foreign_format(std::string_view begin) {
  for (const auto& format : kFormats) {
    if (begin.size() >= format.position && begin.substr(format.position, format.bytes.size()) == format.bytes) {
      return format.words;
    }
  }
  // ASCII text in UTF-16 without a byte order mark has a zero in every second byte.
  const auto is_zero = [&](size_t i) { return begin[i] == 0; };
  if (begin.size() >= 4 && ((is_zero(0) && is_zero(2)) != (is_zero(1) && is_zero(3)))) return kUtf16;
  return {};
}

char find_delimiter(std::string_view first, std::string_view second, int64_t least_columns) {
  char best = ',';
  std::pair<bool, int64_t> merit{false, 0};
  // The comma comes last: there may be as many decimal commas as delimiters, and then the delimiter wins.
  for (const char delimiter : {';', '\t', ','}) {
    const auto count = count_delimiters(first, delimiter);
    const bool fits = count + 1 >= least_columns && (second.empty() || count_delimiters(second, delimiter) == count);
    if (count == 0 || std::pair(fits, count) <= merit) continue;
    merit = {fits, count};
    best = delimiter;
  }
  return best;
}

bool is_delimiter(char character) {
  constexpr auto kDelimiters = "\t !#$%&'()*,/:;<=>?@[\\]^_`{|}~"sv;
  return kDelimiters.find(character) != std::string_view::npos;
}

}  // namespace hopfield::data::detail
