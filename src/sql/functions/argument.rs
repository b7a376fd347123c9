//! The arguments of a function: a name, a kind and a description of each.

use super::kind::Kind;

/// One argument of a function.
#[derive(Debug)]
pub struct Argument {
    /// Its name, as SQL and Python write it.
    pub name: &'static str,
    /// The values that it accepts.
    pub kind: Kind,
    /// The meaning of the argument.
    pub description: &'static str,
    /// May be left out, or be NULL, which means the same.
    pub optional: bool,
    /// Is nothing without the argument after it.
    pub with_next: bool,
}

impl Argument {
    /// Returns an argument that must be given.
    pub const fn new(name: &'static str, kind: Kind, description: &'static str) -> Self {
        Self { name, kind, description, optional: false, with_next: false }
    }

    /// Returns the argument, which may be left out.
    #[must_use]
    pub const fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// Returns the argument, which may be left out together with the next.
    #[must_use]
    pub const fn optional_with_next(mut self) -> Self {
        self.with_next = true;
        self.optional()
    }
}

/// `weights`, as the functions over rows take it.
pub const WEIGHTS: Argument = Argument::new("weights", Kind::Row, "a list of numbers: one row of weights");
/// `quantized`, as the functions over quantized values take it.
pub const QUANTIZED: Argument = Argument::new("quantized", Kind::Quantized, "a quantized value");
/// `bits`.
pub const BITS: Argument = Argument::new("bits", Kind::Bits, "bits per code: 2, 3, 4 or 8");
/// `group_size`.
pub const GROUP_SIZE: Argument =
    Argument::new("group_size", Kind::GroupSize, "weights that share a scale and a zero point; 32 when left out");
/// `method`.
pub const METHOD: Argument = Argument::new(
    "method",
    Kind::Method,
    "'search' (least squared error; the default up to 4 bits) or 'minmax' (the range; the default for 8)",
);
/// `symmetric`.
pub const SYMMETRIC: Argument =
    Argument::new("symmetric", Kind::Symmetric, "true: no zero points; false when left out");
/// `importance`.
pub const IMPORTANCE: Argument = Argument::new(
    "importance",
    Kind::SharedRow,
    "a number for each input channel, by which the squared error is multiplied in a search, such as the mean square of \
     the layer's input; uniform if omitted or NULL",
);

/// `encoding`.
pub const ENCODING: Argument = Argument::new("encoding", Kind::Encoding, ENCODING_DESCRIPTION);

const ENCODING_DESCRIPTION: &str = "how a file format stores a row: 'F16', 'BF16', 'F32' or 'F64'; a type of GGUF, such as \
                                    'Q4_K'; or, as compressed-tensors does, codes with a scale for each group: \
                                    'int4:g32:symmetric:BF16' (int2, int3, int4 or int8; g and the group size, or \
                                    channel; symmetric or asymmetric; the dtype of the scales; and search or minmax, \
                                    which may be left out)";
