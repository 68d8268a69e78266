#pragma once

namespace hopfield::capacity {

// What the literature says of the memories' capacities.

/// The overlap m with a stored pattern of the fixed point close to it, in the network of 1982 with the rule hebb, many
/// neurons and the load alpha = patterns / neurons; 0 above the load where there is none, 0.13791.
/// Source: Amit, Gutfreund, Sompolinsky, "Statistical mechanics of neural networks near saturation", 1987 (T = 0).
double overlap_of_binary_network(double alpha);

/// The probability that the first update changes a neuron of a stored pattern to the wrong value, in a polynomial
/// memory of degree n with K patterns and d neurons. Source: Krotov, Hopfield 2016, equation (6).
double bit_error_of_polynomial_memory(int degree, double patterns, double neurons);
/// The number of patterns where that is 0.5 %.
double capacity_of_polynomial_memory(int degree, double neurons);

/// The load ln N / d up to which the mean map of the continuous network keeps a fixed point with an overlap of at least
/// 0.5, for N patterns on the sphere of squared norm d and an inverse temperature beta: the finite-size form of
/// Lucibello and Mezard, "Exponential capacity of dense associative memories", 2024.
double load_of_continuous_memory(double beta, int dimension);

}  // namespace hopfield::capacity
