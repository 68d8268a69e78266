#pragma once

#include <ATen/core/Tensor.h>

#include <string>

namespace hopfield::examples {

/// Handwritten digits of 8x8 pixels (E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine
/// Learning Repository, 1998).
struct Digits {
  at::Tensor images;  ///< [digits, 8, 8] float32, from 0 to 1: 1,797 in the file that comes with the tests
  at::Tensor labels;  ///< [digits] int64, from 0 to 9
};

/// The path of the digits. "digits" is the file digits.csv in the folder that the environment variable HOPFIELD_DATA
/// names or, where that is not set, where scripts/bootstrap.sh --tests puts it. All others are paths themselves.
/// @param option  begins the error message
/// @throws UsageError if there is no such file
std::string digits_path(const std::string& option, const std::string& name_or_path);

/// Reads a CSV file with one digit in each row: 64 pixels from 0 to 16, row by row, and a label from 0 to 9.
/// @throws c10::Error if the file cannot be read or has other columns or numbers
Digits digits(const std::string& path);

}  // namespace hopfield::examples
