#pragma once

#include <hopfield/core/bags.h>
#include <hopfield/io/safetensors.h>
#include <hopfield/memory/growing_rows.h>
#include <hopfield/memory/recall.h>

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

/// Associative memories. They store patterns, and retrieve them from noisy or partial cues.
namespace hopfield::memory {

/// What all memories have in common. N stored patterns, of d features each.
///
///     memory::ContinuousMemory memory;
///     memory.store(patterns);                 // [N, d]
///     auto recall = memory.retrieve(noisy);   // [Q, d]
///     recall.state, recall.matched, recall.match
///
/// The first patterns decide d, the type (float32 or float64) and the device of a memory; later patterns and queries
/// must have the same. Patterns and queries are finite. Several threads may call the const functions of one memory at
/// a time. Retrieval records no gradient: hopfield::retrieve() does.
class Memory {
 public:
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  virtual ~Memory() = default;

  /// Adds patterns [N, d], or a single one [d]. If anything is wrong with them, the memory stays as it was.
  /// @throws c10::Error if they are not what this memory can store.
  void store(const at::Tensor& patterns);
  /// Forgets patterns by their indices, [n] integers without repetitions. Those that remain keep their order and are
  /// numbered anew.
  /// @throws c10::Error if an index is not that of a stored pattern, or comes twice.
  void forget(const at::Tensor& indices);

  /// The stored patterns [N, d], in the order in which they came. Do not change them in place.
  /// @throws c10::Error if nothing has been stored.
  at::Tensor patterns() const;
  int64_t size() const { return patterns_.size(); }

  /// Updates the queries [Q, d] or [d], and says where they ended.
  /// @throws c10::Error if the memory is empty, or if queries or options are not what it can serve.
  Recall retrieve(const at::Tensor& queries, const RecallOptions& options = {}) const;

  /// The energy of states [Q, d] or [d]: [Q] or [].
  /// @throws c10::Error as retrieve().
  at::Tensor energy(const at::Tensor& states) const;

  /// The k stored patterns that are most similar to each state [Q, d], and their similarities, highest first. The
  /// similarity is the product x.x_i unless the memory says otherwise. Takes memory for a tile of queries x patterns
  /// only. Patterns that are equally similar come in no particular order.
  /// @throws c10::Error as retrieve(), or if k is not positive.
  BestMatches best_matches(const at::Tensor& states, int64_t k = 1) const;

  /// Texts of the caller's that go along with the memory into its file and come back from load(), such as the names of
  /// the patterns. Keys and values are UTF-8. The memory itself does not look at them.
  const io::Metadata& metadata() const { return metadata_; }
  void set_metadata(io::Metadata metadata) { metadata_ = std::move(metadata); }

  /// Writes the memory to a safetensors file, whose metadata have its kind. The previous file stays in place until the
  /// new one is complete: see io::save_safetensors().
  /// @throws c10::Error if the file cannot be written.
  void save(const std::string& path) const;

  /// The name of the class.
  virtual const char* kind() const = 0;

 protected:
  Memory() = default;

  /// Stores the patterns of a memory that is empty yet, without copying them. For constructors.
  void adopt(const at::Tensor& patterns);
  /// The same without learn(), for memories that are read from a file with what they had learned.
  void restore(const at::Tensor& patterns);

  /// Brings rows [n, d] into the space in which states and patterns are compared.
  virtual at::Tensor as_keys(const at::Tensor& rows) const { return rows; }
  /// as_keys(patterns()), kept by the memory.
  virtual at::Tensor keys() const { return patterns(); }
  /// The squared norms of the keys [N], float64.
  at::Tensor squared_norms() const { return moments_.rows().select(1, 1); }

  /// Whether all patterns and queries are vectors of -1 and 1.
  virtual bool has_binary_states() const { return false; }
  /// Called after patterns have been added behind the first `before` ones. It changes nothing if it throws: the
  /// patterns are dropped then.
  virtual void learn(int64_t before) { static_cast<void>(before); }
  /// Called after patterns have been removed, and changes nothing if it throws. `kept` [N'] and `removed` [n] are
  /// indices of before, in ascending order; `forgotten` [n, d] are the patterns that are gone.
  virtual void unlearn(const at::Tensor& kept, const at::Tensor& removed, const at::Tensor& forgotten) {
    static_cast<void>(kept), static_cast<void>(removed), static_cast<void>(forgotten);
  }
  /// Fills the result for checked queries as_keys() [Q, d], of which these may be left undefined: `match`, `output`
  /// where it is the state, `energy` where it is energy_of(state), and `matched` unless some queries can have no match.
  virtual Recall recall(const at::Tensor& queries, const RecallSettings& settings) const = 0;
  /// The energy [Q] of checked states [Q, d].
  virtual at::Tensor energy_of(const at::Tensor& states) const = 0;
  /// best_matches() of checked states [Q, d].
  virtual BestMatches best_matches_of(const at::Tensor& states, int64_t k) const;
  /// Adds what the patterns and the kind do not say: options to the metadata, tensors under names other than
  /// "patterns".
  virtual void write(io::SafetensorsFile& file) const { static_cast<void>(file); }

  /// For error messages: "hopfield::memory::<kind>: ".
  std::string prefix() const;
  /// Checks queries or states, and returns them as [Q, d].
  at::Tensor checked(const at::Tensor& queries, const char* name) const;
  /// What retrieve() does with checked queries as_keys() [Q, d] once recall() has updated them. `known` [Q, d] bool, if
  /// defined, says which features of the cues count in the decision on what came back. `single` says that the caller
  /// gave one query [d].
  Recall completed(Recall recall, const at::Tensor& queries, const at::Tensor& known, const RecallSettings& settings,
                   bool single) const;

 private:
  at::Tensor checked_patterns(const at::Tensor& patterns) const;
  at::Tensor match_of(const Recall& recall, const at::Tensor& queries, const at::Tensor& known,
                      const RecallSettings& settings) const;

  GrowingRows patterns_;  // [N, d]
  GrowingRows moments_;   // [N, 2] float64: sums of the keys' features and of their squares
  io::Metadata metadata_;
};

/// Reads a memory that Memory::save() wrote. The result is of the class that was saved:
/// `dynamic_cast<memory::ContinuousMemory&>(*memory)`.
/// @param device  where the patterns are put
/// @throws c10::Error if the file is not a memory, or one of a kind or version that this library does not know.
std::unique_ptr<Memory> load(const std::string& path, at::Device device = at::kCPU);

}  // namespace hopfield::memory
