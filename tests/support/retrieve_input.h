#pragma once

#include <hopfield/ops/retrieve.h>

#include <ATen/ATen.h>

#include <string>
#include <vector>

namespace hopfield::testing {

/// How stored patterns are laid out against queries [N, H, L, d].
enum class Layout { dense, batch_shared, heads_shared, all_shared, ragged };
enum class MaskKind { none, boolean, floating, padding, key_bias, everything, causal };

inline constexpr Layout kLayouts[] = {Layout::dense, Layout::batch_shared, Layout::heads_shared, Layout::all_shared,
                                      Layout::ragged};
inline constexpr MaskKind kMaskKinds[] = {MaskKind::none,    MaskKind::boolean,  MaskKind::floating,
                                          MaskKind::padding, MaskKind::key_bias, MaskKind::everything,
                                          MaskKind::causal};
/// Whether ragged patterns can have such masks.
inline bool is_for_ragged(MaskKind mask) {
  return mask == MaskKind::none || mask == MaskKind::key_bias || mask == MaskKind::causal;
}

/// A random call of retrieve() in float64, and the same call spelled out for naive_retrieve().
struct RetrieveCase {
  RetrieveInput input;
  at::Tensor state, stored, projection;  // [N, H, L, d], [N, H, S, d], [N, H, S, d_v], contiguous
  at::Tensor bias;                       // [N, H, L, S]
  std::vector<int64_t> bag_sizes;        // ragged only

  std::string name;
};

struct RetrieveShape {
  int64_t batch = 3, heads = 2, queries = 2, keys = 5, depth = 4, width = 3;
};

/// Ragged cases have no masks but those of is_for_ragged(): with other kinds of masks they have none. The causal cases
/// have a key bias, too. With masks, query 0 of batch element 0 and all queries of the last batch element may attend to
/// nothing. Without `own_projection` the stored patterns are the values.
RetrieveCase make_case(Layout layout, MaskKind mask, bool own_projection, uint64_t seed, RetrieveShape shape = {});

}  // namespace hopfield::testing
