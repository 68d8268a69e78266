#include "ops/retrieve_internal.h"
#include "ops/transforms.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <limits>
#include <utility>

namespace hopfield::detail {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

at::Tensor row_dot(const at::Tensor& a, const at::Tensor& b) { return (a * b).sum(-1, /*keepdim=*/true); }

/// Solves (I - J) u = g by conjugate gradients; each row [N, H, L] is a system of its own. J = beta K^T (diag p - p
/// p^T) K is symmetric and positive semidefinite. Where I - J is not positive definite, the fixed point does not
/// attract, and u is g, as for the gradient of one update.
at::Tensor solve_by_conjugate_gradients(const at::Tensor& gradient, const UpdateJacobian::Product& jacobian) {
  const double precision = gradient.scalar_type() == at::kDouble ? std::numeric_limits<double>::epsilon()
                                                                 : std::numeric_limits<float>::epsilon();
  auto solution = at::zeros_like(gradient);
  auto residual = gradient;
  auto direction = gradient;
  auto squared = row_dot(residual, residual);  // [N, H, L, 1]
  const auto target = squared * (precision * precision);
  auto active = squared > target;
  auto failed = at::zeros_like(active);
  const auto most = 2 * gradient.size(-1) + 10;
  for (int64_t i = 0; i < most && active.any().item<bool>(); ++i) {
    const auto image = direction - jacobian(direction);
    const auto curvature = row_dot(direction, image);
    failed = failed.bitwise_or(active.bitwise_and(curvature.gt(0).bitwise_not()));
    active = active.bitwise_and(failed.bitwise_not());
    const auto step = at::where(active, squared / curvature, at::zeros_like(squared));
    solution = solution + step * direction;
    residual = residual - step * image;
    const auto next_squared = row_dot(residual, residual);
    direction = residual + at::where(active, next_squared / squared, at::zeros_like(squared)) * direction;
    squared = next_squared;
    active = active.bitwise_and(squared > target);
  }
  return at::where(failed, gradient, solution);
}

class ImplicitState : public torch::autograd::Function<ImplicitState> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& refined, const at::Tensor& query,
                            const at::Tensor& fixed_point, const at::Tensor& converged,
                            const c10::intrusive_ptr<UpdateJacobian>& jacobian) {
    (void)refined;
    auto saved = std::exchange(jacobian->tensors, {});
    saved.push_back(query);
    saved.push_back(converged.clone());  // the result is the caller's to change
    context->save_for_backward(std::move(saved));
    context->saved_data["jacobian"] = c10::IValue::make_capsule(jacobian);
    return fixed_point.clone();
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    TORCH_CHECK(
        !at::GradMode::is_enabled(),
        "hopfield::retrieve: expected no second derivative through gradient = implicit, got a backward pass with "
        "create_graph; use the unrolled gradient");
    auto saved = context->get_saved_variables();
    const auto jacobian =
        c10::static_intrusive_pointer_cast<UpdateJacobian>(context->saved_data["jacobian"].toCapsule());
    const auto converged = saved.back(), query = saved[saved.size() - 2];
    saved.resize(saved.size() - 2);
    const auto& gradient = gradients[0];
    TORCH_CHECK(!is_transformed(gradient),
                "hopfield::retrieve: expected no implicit gradient where torch.func or forward-mode differentiation "
                "transforms what comes in from the loss, since its solver reads numbers; use the unrolled gradient");
    const auto solved = solve_by_conjugate_gradients(gradient, jacobian->product(saved));
    return {at::where(converged, solved, gradient), at::zeros_like(query), {}, {}, {}};
  }
};

}  // namespace

at::Tensor implicit_state(const at::Tensor& fixed_point, const at::Tensor& refined, const at::Tensor& query,
                          const at::Tensor& converged, const c10::intrusive_ptr<UpdateJacobian>& jacobian) {
  if (query.requires_grad()) {
    TORCH_WARN_ONCE(
        "hopfield::retrieve: the implicit gradient of a fixed point is zero for the query: state receives zeros, and "
        "so does what only produces it (W_Q, pooling weights)");
  }
  return ImplicitState::apply(refined, query, fixed_point, converged, jacobian);
}

}  // namespace hopfield::detail
