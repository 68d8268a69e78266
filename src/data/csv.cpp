#include "data/csv_number.h"
#include "data/csv_reader.h"
#include "data/numbers.h"
#include <hopfield/data/csv.h>

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <unordered_map>
#include <utility>

namespace hopfield::data {
namespace {

/// Assigns the rows of a file to bags while they are read.
class BagIndex {
 public:
  /// Position of the bag with this id, a new bag if there is none yet.
  size_t find_or_add(const std::string& id, const detail::CsvReader::Label& label) {
    const auto [entry, is_new] = positions_.try_emplace(id, table_.bags.size());
    if (is_new) {
      table_.bags.push_back({at::Tensor(), label.value});
      table_.bag_ids.push_back(id);
      table_.label_texts.emplace_back(label.text);
      sizes_.push_back(0);
    }
    return entry->second;
  }
  const std::string& label_text(size_t bag) const { return table_.label_texts[bag]; }

  /// Whether a bag has this label. Two spellings of a number, such as 1 and 1.0, are the same label, and so are two
  /// missing ones.
  bool has_label(size_t bag, const detail::CsvReader::Label& label) const {
    if (label_text(bag) == label.text) return true;
    const auto value = table_.bags[bag].label;
    if (std::isnan(value) || std::isnan(label.value)) return std::isnan(value) && std::isnan(label.value);
    double one = 0, other = 0;
    return detail::parse_number(label_text(bag), one) == detail::Number::valid &&
           detail::parse_number(label.text, other) == detail::Number::valid && one == other;
  }

  void add_row(size_t bag) {
    if (runs_.empty() || runs_.back().bag != bag) runs_.push_back({bag, rows_, rows_});
    runs_.back().end = ++rows_;
    ++sizes_[bag];
  }

  /// @param rows  the features of all rows of the file, perhaps followed by unused ones: [rows or more, features]
  MilTable table(const at::Tensor& rows) {
    const auto values = by_bag(rows.narrow(0, 0, rows_));
    int64_t begin = 0;
    for (size_t bag = 0; bag < sizes_.size(); begin += sizes_[bag++]) {
      table_.bags[bag].instances = values.narrow(0, begin, sizes_[bag]);
    }
    table_.features = values.size(1);
    return std::move(table_);
  }

 private:
  /// Consecutive rows of the file that belong to one bag.
  struct Run {
    size_t bag;
    int64_t begin, end;
  };

  /// The rows in the order of the bags. If the file has each bag in one piece, as most files do, nothing is copied.
  at::Tensor by_bag(const at::Tensor& rows) {
    const auto earlier = [](const Run& a, const Run& b) { return a.bag < b.bag; };
    if (std::is_sorted(runs_.begin(), runs_.end(), earlier)) return rows;
    std::stable_sort(runs_.begin(), runs_.end(), earlier);
    const auto order = at::empty({rows_}, at::kLong);
    auto* next = order.data_ptr<int64_t>();
    for (const auto& run : runs_) {
      for (auto row = run.begin; row < run.end; ++row) *next++ = row;
    }
    return rows.index_select(0, order);
  }

  MilTable table_;
  std::unordered_map<std::string, size_t> positions_;
  std::vector<int64_t> sizes_;
  std::vector<Run> runs_;
  int64_t rows_ = 0;
};

void read_features(detail::CsvReader& reader, at::Tensor& rows, int64_t row) {
  const auto features = rows.size(1);
  auto* out = rows.data_ptr<float>() + row * features;
  for (int64_t i = 0; i < features; ++i) out[i] = reader.feature();
}

/// A tensor with space for all rows of the file. Pages that no row is written to take no physical memory.
at::Tensor room_for_rows(const detail::CsvReader& reader) {
  return at::empty({reader.most_rows(), reader.features()}, at::kFloat);
}

}  // namespace

at::Tensor MilTable::labels() const {
  auto result = at::empty({static_cast<int64_t>(bags.size())}, at::kDouble);
  for (size_t i = 0; i < bags.size(); ++i) result.data_ptr<double>()[i] = bags[i].label;
  return result;
}

MilTable read_mil_csv(const std::string& path, const CsvOptions& options) {
  const detail::CsvLayout layout{"bag label, bag id, features...", /*ids=*/1, /*label_last=*/false};
  detail::CsvReader reader("hopfield::data::read_mil_csv", path, layout, options);
  auto rows = room_for_rows(reader);
  BagIndex index;
  for (int64_t row = 0; reader.next_row(); ++row) {
    const auto label = reader.label();
    const std::string id(reader.cell());
    if (id.empty()) reader.fail(reader.has_labels() ? 2 : 1, "a bag id", reader.shown(id));
    const auto bag = index.find_or_add(id, label);
    if (!index.has_label(bag, label)) {
      reader.fail(1,
                  c10::str("the label ", reader.shown(index.label_text(bag)), " like the rows of bag ",
                           reader.shown(id), " before"),
                  reader.shown(label.text));
    }
    index.add_row(bag);
    read_features(reader, rows, row);
  }
  auto table = index.table(rows);
  table.has_header = reader.has_header();
  return table;
}

LabelledTable read_table_csv(const std::string& path, const CsvOptions& options) {
  const detail::CsvLayout layout{"features..., label", /*ids=*/0, /*label_last=*/true};
  detail::CsvReader reader("hopfield::data::read_table_csv", path, layout, options);
  auto rows = room_for_rows(reader);
  auto labels = at::empty({reader.most_rows()}, at::kDouble);
  int64_t row = 0;
  for (; reader.next_row(); ++row) {
    read_features(reader, rows, row);
    labels.data_ptr<double>()[row] = reader.label().value;
  }
  return {rows.narrow(0, 0, row), labels.narrow(0, 0, row)};
}

at::Tensor binary_labels(const at::Tensor& labels) {
  const auto numbers = detail::numbers_of(labels, "hopfield::data::binary_labels", "labels");
  const std::set<double> classes(numbers.begin(), numbers.end());
  TORCH_CHECK(classes.size() == 2, "hopfield::data::binary_labels: expected labels of 2 classes, got ", classes.size(),
              classes.size() == 1 ? c10::str(": every label is ", *classes.begin()) : std::string());
  return labels.detach().to(at::kDouble).eq(*classes.rbegin()).to(at::kDouble);
}

MilTable binary_labels(MilTable table) {
  const auto labels = binary_labels(table.labels());
  for (size_t i = 0; i < table.bags.size(); ++i) table.bags[i].label = labels.data_ptr<double>()[i];
  return table;
}

}  // namespace hopfield::data
