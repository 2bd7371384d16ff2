package planted

// compiled says that the bugs are in this binary. The overlay replaces this file.
const compiled = false
