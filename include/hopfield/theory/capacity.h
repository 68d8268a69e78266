#pragma once

/// What the literature says about the number of patterns that the memories hold. d is the number of neurons or
/// features. All functions throw c10::Error if an argument is out of range.
namespace hopfield::theory {

/// The overlap m with a stored pattern of the fixed point close to it, in the network of 1982 with Hebb's rule, many
/// neurons and the load alpha = patterns / neurons > 0; 0 above the load where there is none, 0.13791.
/// Source: Amit, Gutfreund, Sompolinsky, "Statistical mechanics of neural networks near saturation", 1987 (T = 0).
double overlap_of_binary_network(double alpha);
/// The number of random patterns that the network of 1982 holds with few errors, 0.138 d. Source: the same.
double capacity_of_binary_network(double neurons);
/// The number of random patterns that are all fixed points without any error, d / (4 ln d). d >= 2
/// Source: McEliece, Posner, Rodemich, Venkatesh, "The capacity of the Hopfield associative memory", 1987.
double errorless_capacity_of_binary_network(double neurons);

/// The probability that the first update changes a neuron of a stored pattern to the wrong value, in a polynomial
/// memory of degree n >= 2 with K patterns and d neurons. Source: Krotov, Hopfield 2016, equation (6).
double bit_error_of_polynomial_memory(int degree, double patterns, double neurons);
/// The number of patterns where that is 0.5 %, alpha_n d^(n-1).
double capacity_of_polynomial_memory(int degree, double neurons);
/// The number of patterns without errors, d^(n-1) / (2 (2n-3)!! ln d). d >= 2. Source: Krotov, Hopfield 2016, equation
/// (7).
double errorless_capacity_of_polynomial_memory(int degree, double neurons);

/// The natural logarithm of the number of patterns that the exponential memory retrieves after a share `flipped` of the
/// neurons, from 0 to below 1/2, has been inverted: I(1 - 2 flipped) d / 2, with 2 I(a) = (1+a) ln(1+a) + (1-a)
/// ln(1-a). Without errors in the cue these are 2^(d/2) patterns. Source: Demircigil et al. 2017, theorem 3.
double log_capacity_of_exponential_memory(double neurons, double flipped = 0.0);

/// The load ln N / d up to which the mean map of the continuous network keeps a fixed point with an overlap of at least
/// 0.5, for N patterns on the sphere of squared norm d >= 2 and an inverse temperature beta > 0: the finite-size form
/// of Lucibello and Mezard, "Exponential capacity of dense associative memories", 2024.
double load_of_continuous_memory(double beta, int dimension);
/// Its limit for many dimensions, beta - beta phi - ln(1 - phi^2) / 2 with phi = (sqrt(1 + 4 beta^2) - 1) / (2 beta).
double load_of_continuous_memory(double beta);

/// What theorem 3 of Ramsauer et al. 2021 guarantees for random patterns on a sphere.
struct SphereCapacity {
  double c;             ///< at least sqrt(p) c^((d-1)/4) patterns can be stored
  double required_c;    ///< (2 / sqrt(p))^(4 / (d-1)), which c must reach
  double log_patterns;  ///< ln of that number of patterns; NaN without a guarantee
  bool is_guaranteed() const { return c >= required_c; }
};
/// @param beta     the inverse temperature
/// @param factor   K: the patterns have the norm K sqrt(d - 1)
/// @param width    d >= 2
/// @param failure  p, between 0 and 1: the guarantee holds with the probability 1 - p
SphereCapacity sphere_capacity(double beta, double factor, int width, double failure = 0.001);

/// The upper branch W_0 of Lambert's function: the w >= -1 with w exp(w) = x, for x >= -1/e. NaN below.
double lambert_w0(double x);
/// W_0(exp(y)), the w > 0 with w + ln(w) = y, also where exp(y) is no finite number.
double lambert_w0_of_exp(double y);

}  // namespace hopfield::theory
