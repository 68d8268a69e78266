#pragma once

#include "common/errors.h"

#include <cstdint>
#include <optional>
#include <string>

namespace hopfield::encoder {

using examples::reading;
using examples::UsageError;

/// The model, and how its attention updates.
struct ModelOptions {
  std::string path;
  std::optional<int64_t> heads;  // not set: as config.json beside the model says
  int64_t update_steps = 0;
  double beta_scale = 1;  // times the inverse temperature of attention
};

/// Where sentences come from: a text, or token ids.
struct TextOptions {
  std::string text, tokens;
  std::string python = "python3";
};

struct CommonOptions {
  ModelOptions model;
  int64_t batch = 32, threads = 0;
  std::string json;
  std::string command;  // the whole command line
  bool quiet = false;
};

struct EncodeOptions : CommonOptions {
  TextOptions text;
  std::string out;
};

struct SearchOptions : CommonOptions {
  TextOptions text;
  std::string query, queries;  // one text, or a file of them
  int64_t top = 5;
  double least = 0.3;
};

struct HeadsOptions : CommonOptions {
  TextOptions text;
  int64_t length = 256;
  std::string picture;
};

struct CompareOptions : CommonOptions {
  std::string python = "python3";
  int64_t most_update_steps = 3;
};

/// What the command line asks for: one of the four.
struct Request {
  std::optional<EncodeOptions> encode;
  std::optional<SearchOptions> search;
  std::optional<HeadsOptions> heads;
  std::optional<CompareOptions> compare;
};

/// Reads the command line. Returns nothing after --help and --version, whose text it prints.
/// @throws UsageError if the call is wrong
std::optional<Request> parse_command_line(int argc, char** argv);

// The commands of the program, which return its exit code.
int encode(const EncodeOptions& options);
int search(const SearchOptions& options);
int heads(const HeadsOptions& options);
int compare(const CompareOptions& options);

}  // namespace hopfield::encoder
