// Defines HOPFIELD_OPTION(name): the chained setter and the getter of one member of the options' settings. A class that
// uses it names `Derived` and `Settings`. Every header that includes this file undefines the macro at its own end, so
// that programs never see it. There is no include guard for that reason, and this file comes last among the headers'
// own includes.

#define HOPFIELD_OPTION(name)                     \
  Derived& name(decltype(Settings::name) value) { \
    this->settings_.name = std::move(value);      \
    return static_cast<Derived&>(*this);          \
  }                                               \
  const decltype(Settings::name)& name() const { return this->settings_.name; }
