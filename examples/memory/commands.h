#pragma once

#include "options.h"

#include <string>

namespace hopfield::image_memory {

// The commands of the program, which return its exit code. @param command  the whole command line, for reports

int store(const StoreOptions& options, const std::string& command);
int recall(const RecallOptions& options, const std::string& command);
int show(const ShowOptions& options, const std::string& command);
int compare(const CompareOptions& options, const std::string& command);

}  // namespace hopfield::image_memory
