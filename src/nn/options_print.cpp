#include "nn/options_print.h"

#include <ostream>
#include <sstream>

namespace hopfield::nn {
namespace {

template <typename T>
void print(std::ostream& stream, const char* name, const PerHead<T>& value) {
  stream << ", " << name << "=";
  const auto& values = value.values();
  if (values.size() == 1) {
    stream << values.front();
    return;
  }
  for (size_t i = 0; i < values.size(); ++i) stream << (i == 0 ? "[" : ", ") << values[i];
  stream << "]";
}

}  // namespace

std::string describe(const AssociationSettings& s) {
  std::ostringstream stream;
  stream << std::boolalpha << "input_size=" << (s.input_size ? std::to_string(*s.input_size) : std::string("none"));
  const auto size = [&](const char* name, const std::optional<int64_t>& value) {
    if (value) stream << ", " << name << "=" << *value;
  };
  const auto flag = [&](const char* name, bool value, bool usual) {
    if (value != usual) stream << ", " << name << "=" << value;
  };
  size("hidden_size", s.hidden_size);
  size("output_size", s.output_size);
  size("pattern_size", s.pattern_size);
  size("stored_pattern_size", s.stored_pattern_size);
  size("pattern_projection_size", s.pattern_projection_size);
  stream << ", num_heads=" << s.num_heads;
  if (s.scaling) print(stream, "scaling", *s.scaling);
  flag("scaling_as_trainable", s.scaling_as_trainable, false);
  if (s.update_steps_max.values().size() == 1 && s.update_steps_max.values().front() < 0) {
    stream << ", update_steps_max=until_converged, update_steps_cap=" << s.update_steps_cap;
  } else {
    print(stream, "update_steps_max", s.update_steps_max);
  }
  print(stream, "update_steps_eps", s.update_steps_eps);
  stream << ", stop_rule=" << to_string(s.stop_rule) << ", gradient=" << to_string(s.gradient);
  if (s.separation.kind() != Separation::Kind::softmax) stream << ", separation=" << to_string(s.separation);
  if (s.backend != Backend::automatic) stream << ", backend=" << to_string(s.backend);
  flag("normalize_stored_pattern", s.normalize_stored_pattern, true);
  flag("normalize_state_pattern", s.normalize_state_pattern, true);
  flag("normalize_pattern_projection", s.normalize_pattern_projection, true);
  flag("normalize_hopfield_space", s.normalize_hopfield_space, false);
  flag("stored_pattern_as_static", s.stored_pattern_as_static, false);
  flag("state_pattern_as_static", s.state_pattern_as_static, false);
  flag("pattern_projection_as_static", s.pattern_projection_as_static, false);
  flag("pattern_projection_as_connected", s.pattern_projection_as_connected, false);
  flag("batch_first", s.batch_first, true);
  if (s.association_activation) stream << ", association_activation=" << *s.association_activation;
  if (s.dropout > 0) stream << ", dropout=" << s.dropout;
  flag("input_bias", s.input_bias, true);
  flag("concat_bias_pattern", s.concat_bias_pattern, false);
  flag("add_zero_association", s.add_zero_association, false);
  flag("disable_out_projection", s.disable_out_projection, false);
  return stream.str();
}

}  // namespace hopfield::nn
