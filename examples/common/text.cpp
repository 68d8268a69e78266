#include "text.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <numeric>
#include <sstream>

namespace hopfield::examples {
namespace {

/// The edit distance of two texts: how many letters to insert, delete, replace or swap with their neighbour
/// (Levenshtein's distance with transpositions).
size_t distance(const std::string& a, const std::string& b) {
  std::vector<size_t> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  std::iota(last.begin(), last.end(), 0);
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    before.swap(last);
    last.swap(row);
  }
  return last[b.size()];
}

/// The text without leading dashes, in lower case, and with '-' in place of '_'.
std::string bare(const std::string& text) {
  auto result = text.substr(std::min(text.find_first_not_of('-'), text.size()));
  for (auto& letter : result)
    letter = letter == '_' ? '-' : static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
  return result;
}

}  // namespace

std::string shown(const std::string& text) {
  constexpr size_t kShown = 200;
  auto end = std::min(text.size(), kShown);
  // Do not cut in the middle of a UTF-8 character.
  while (end > 0 && end < text.size() && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  auto result = valid_utf8(text.substr(0, end));
  std::replace_if(
      result.begin(), result.end(), [](unsigned char c) { return c < ' ' || c == 0x7F; }, '?');
  return end == text.size() ? result : result + "... (" + std::to_string(text.size()) + " bytes)";
}

std::string quote(const std::string& text) { return "'" + shown(text) + "'"; }

std::string valid_utf8(const std::string& text) {
  using Json = nlohmann::json;
  return Json::parse(Json(text).dump(-1, ' ', false, Json::error_handler_t::replace)).get<std::string>();
}

std::string ending_of(const std::string& path) {
  auto ending = std::filesystem::path(path).extension().string();
  for (auto& letter : ending) letter = static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
  return ending;
}

std::vector<std::string> break_lines(const std::string& text, size_t most) {
  // The characters of UTF-8: all bytes but those that continue one.
  const auto length = [](const std::string& part) {
    return static_cast<size_t>(
        std::count_if(part.begin(), part.end(), [](unsigned char byte) { return (byte & 0xC0) != 0x80; }));
  };
  std::vector<std::string> lines;
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    if (!lines.empty() && length(lines.back()) + 1 + length(word) <= most) {
      lines.back() += " " + word;
    } else {
      lines.push_back(word);
    }
  }
  return lines;
}

std::string joined(const std::vector<std::string>& texts) {
  std::string result;
  for (const auto& text : texts) result += (result.empty() ? "" : ", ") + text;
  return result;
}

std::vector<std::string> split_at_commas(const std::string& text) {
  std::vector<std::string> parts;
  for (size_t begin = 0; begin <= text.size();) {
    const auto end = std::min(text.find(',', begin), text.size());
    parts.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

std::string closest(const std::string& text, const std::vector<std::string>& known) {
  const auto wanted = bare(text);
  if (wanted.empty() || wanted.size() > 100) return "";
  std::string best;
  auto best_distance = 1 + std::max<size_t>(1, wanted.size() / 3);
  for (const auto& candidate : known) {
    const auto name = bare(candidate);
    const bool begins = wanted.size() > 2 && name.rfind(wanted, 0) == 0;
    const auto letters = begins ? 1 : distance(wanted, name);
    if (letters < best_distance) {
      best = candidate;
      best_distance = letters;
    }
  }
  return best;
}

std::string suggestion(const std::string& text, const std::vector<std::string>& known) {
  const auto meant = closest(text, known);
  return meant.empty() ? "" : "; did you mean " + meant + "?";
}

}  // namespace hopfield::examples
