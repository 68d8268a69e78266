#pragma once

#include <hopfield/core/masks.h>

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

namespace hopfield::theory {

/// The sizes of an attention.
struct HeadSizes {
  int64_t batch, heads, queries, keys;
};

/// A part of the queries: some of them for some batch elements.
struct HeadTile {
  int64_t first_sample, samples, first_query, queries;
};

/// Goes through all queries in tiles of at most `rows` queries, but at least one.
void for_each_tile(const HeadSizes& sizes, int64_t rows, const std::function<void(const HeadTile&)>& visit);

/// How many queries a tile of `tile` weights holds.
int64_t rows_of_tile(const HeadSizes& sizes, int64_t tile);

/// The part of a tensor [N or 1, H or 1, L or 1, S] that belongs to a tile.
at::Tensor tile_of(const at::Tensor& tensor, const HeadTile& tile);

/// Throws unless the masks fit the sizes. Of an attention without a batch, `batched` is false and
/// the batch 1. The message begins with `function`.
void check_head_masks(const char* function, const Masks& masks, const HeadSizes& sizes, bool batched);

/// The query mask [N, L] or [L] as [N, 1, L, 1]; undefined if it is.
/// @throws c10::Error if it does not fit.
at::Tensor ignored_queries(const char* function, const at::Tensor& query_mask, const HeadSizes& sizes, bool batched);

/// Keys that do not count by checked masks: each [N or 1, H or 1, L or 1, S] bool.
std::vector<at::Tensor> excluded_keys(const Masks& masks, const HeadSizes& sizes, at::Device device);

/// Those of a tile in one tensor; undefined if there are none.
at::Tensor excluded_keys_of(const std::vector<at::Tensor>& excluded, const HeadTile& tile);

}  // namespace hopfield::theory
