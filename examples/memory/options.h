#pragma once

#include "common/errors.h"
#include "common/image.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace hopfield::image_memory {

using examples::reading;
using examples::UsageError;

constexpr const char* kAnyDigit = "all";

/// Which images are stored.
struct ImageOptions {
  std::vector<std::string> paths;           // PNG files and folders; none: the digits
  std::optional<examples::ImageSize> size;  // what the images are resized to
  std::optional<double> threshold;          // above it, pixels are white; not set: the mean of each image
  int64_t count = 0;                        // only the first so many; 0: all
  std::string digit = kAnyDigit;            // of the digits, only those of this class
  bool is_digits() const { return paths.empty() || paths == std::vector<std::string>{"digits"}; }
};

/// A memory and what is particular to its kind. What is not set follows from the images.
struct MemoryOptions {
  std::string kind = "continuous";
  std::optional<std::string> rule;        // binary
  std::optional<int64_t> order;           // polynomial
  std::optional<std::string> similarity;  // continuous
  std::optional<double> beta;             // continuous and kernel
  std::optional<double> gain;             // graded
};

/// What happens to an image before it becomes a cue.
struct Corruption {
  std::string kind;
  double amount = 0;
};

struct StoreOptions {
  ImageOptions images;
  MemoryOptions memory;
  std::string out, json;
  bool quiet = false;
};

struct RecallOptions {
  std::string in;
  std::vector<std::string> cues;  // PNG files and folders; none: the stored images
  std::vector<Corruption> corruptions;
  uint64_t seed = 0;
  int64_t count = 0, update_steps = -1, show = 8;
  std::string device = "cpu";
  std::string grid, json;
  bool quiet = false;
};

struct ShowOptions {
  std::string in;
  int64_t show = 48;
  std::string grid, json;
  bool quiet = false;
};

struct CompareOptions {
  ImageOptions images;
  std::vector<int64_t> counts{1, 3, 6, 24};
  std::vector<Corruption> corruptions;
  uint64_t seed = 0;
  std::string picture, json;
  bool quiet = false;
};

/// What the command line asks for: one of the four.
struct Request {
  std::optional<StoreOptions> store;
  std::optional<RecallOptions> recall;
  std::optional<ShowOptions> show;
  std::optional<CompareOptions> compare;
  std::string command;  // the whole command line
};

/// Reads the command line. Returns nothing after --help and --version, whose text it prints.
/// @throws UsageError if the call is wrong
std::optional<Request> parse_command_line(int argc, char** argv);

}  // namespace hopfield::image_memory
