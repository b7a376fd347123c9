//! The key-value pairs of a GGUF file.

use super::cursor::Cursor;

/// One pair.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: Value,
}

/// A value. The numbers of the variants are those of the format.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the names are the documentation: those of the format")]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    /// The number of the elements' type, how many there are, and their bytes as they stand in the file.
    Array(u32, u64, Vec<u8>),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// The number of the type of strings.
pub(super) const STRING: u32 = 8;
/// The number of the type of arrays.
const ARRAY: u32 = 9;

impl Value {
    /// Returns the values of strings.
    pub fn strings<'a>(strings: impl ExactSizeIterator<Item = &'a str>) -> Self {
        let (count, mut bytes) = (strings.len() as u64, Vec::new());
        strings.for_each(|string| write_string(string, &mut bytes));
        Self::Array(STRING, count, bytes)
    }

    /// Returns the values of 32-bit integers.
    pub fn i32s(numbers: &[i32]) -> Self {
        Self::Array(5, numbers.len() as u64, numbers.iter().flat_map(|number| number.to_le_bytes()).collect())
    }

    /// Returns a number that is not negative, of any integer type.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::U8(x) => Some(x.into()),
            Self::U16(x) => Some(x.into()),
            Self::U32(x) => Some(x.into()),
            Self::U64(x) => Some(x),
            Self::I8(x) => x.try_into().ok(),
            Self::I16(x) => x.try_into().ok(),
            Self::I32(x) => x.try_into().ok(),
            Self::I64(x) => x.try_into().ok(),
            _ => None,
        }
    }

    /// Returns the value as text; of an array, how many elements it has.
    pub fn to_text(&self) -> String {
        match self {
            Self::U8(x) => x.to_string(),
            Self::I8(x) => x.to_string(),
            Self::U16(x) => x.to_string(),
            Self::I16(x) => x.to_string(),
            Self::U32(x) => x.to_string(),
            Self::I32(x) => x.to_string(),
            Self::F32(x) => x.to_string(),
            Self::Bool(x) => x.to_string(),
            Self::String(x) => x.clone(),
            Self::Array(_, count, _) => format!("[{count} values]"),
            Self::U64(x) => x.to_string(),
            Self::I64(x) => x.to_string(),
            Self::F64(x) => x.to_string(),
        }
    }

    /// Reads a value and its type before it.
    pub(super) fn read(cursor: &mut Cursor) -> Result<Self, String> {
        Ok(match cursor.u32()? {
            0 => Self::U8(u8::from_le_bytes(cursor.array()?)),
            1 => Self::I8(i8::from_le_bytes(cursor.array()?)),
            2 => Self::U16(u16::from_le_bytes(cursor.array()?)),
            3 => Self::I16(i16::from_le_bytes(cursor.array()?)),
            4 => Self::U32(cursor.u32()?),
            5 => Self::I32(i32::from_le_bytes(cursor.array()?)),
            6 => Self::F32(f32::from_le_bytes(cursor.array()?)),
            7 => match cursor.array::<1>()? {
                [0] => Self::Bool(false),
                [1] => Self::Bool(true),
                [other] => return Err(format!("a boolean is {other}, neither 0 nor 1")),
            },
            STRING => Self::String(cursor.string()?.to_owned()),
            ARRAY => {
                let (kind, count) = (cursor.u32()?, cursor.u64()?);
                Self::Array(kind, count, elements(cursor, kind, count)?.to_vec())
            }
            10 => Self::U64(cursor.u64()?),
            11 => Self::I64(i64::from_le_bytes(cursor.array()?)),
            12 => Self::F64(f64::from_le_bytes(cursor.array()?)),
            other => return Err(format!("has a value of type {other}; known are 0 to 12")),
        })
    }

    /// Writes the type and the value.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let mut put = |kind: u32, bytes: &[u8]| {
            out.extend_from_slice(&kind.to_le_bytes());
            out.extend_from_slice(bytes);
        };
        match self {
            Self::U8(x) => put(0, &x.to_le_bytes()),
            Self::I8(x) => put(1, &x.to_le_bytes()),
            Self::U16(x) => put(2, &x.to_le_bytes()),
            Self::I16(x) => put(3, &x.to_le_bytes()),
            Self::U32(x) => put(4, &x.to_le_bytes()),
            Self::I32(x) => put(5, &x.to_le_bytes()),
            Self::F32(x) => put(6, &x.to_le_bytes()),
            Self::Bool(x) => put(7, &[u8::from(*x)]),
            Self::String(x) => {
                put(STRING, &[]);
                write_string(x, out);
            }
            Self::Array(kind, count, bytes) => {
                put(ARRAY, &kind.to_le_bytes());
                out.extend_from_slice(&count.to_le_bytes());
                out.extend_from_slice(bytes);
            }
            Self::U64(x) => put(10, &x.to_le_bytes()),
            Self::I64(x) => put(11, &x.to_le_bytes()),
            Self::F64(x) => put(12, &x.to_le_bytes()),
        }
    }
}

/// Passes over the elements of an array and gives their bytes.
fn elements<'a>(cursor: &mut Cursor<'a>, kind: u32, count: u64) -> Result<&'a [u8], String> {
    let start = cursor.at();
    let size = match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        10..=12 => 8,
        STRING => {
            for _ in 0..count {
                cursor.string()?;
            }
            return Ok(cursor.since(start));
        }
        other => return Err(format!("has an array of type {other}; those of 0 to 8 and 10 to 12 are read")),
    };
    let bytes = usize::try_from(count).ok().and_then(|count| count.checked_mul(size));
    cursor.take(bytes.ok_or_else(|| format!("has an array of {count} values, more than can be addressed"))?)
}

/// Writes a string's length and bytes.
pub(super) fn write_string(string: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&(string.len() as u64).to_le_bytes());
    out.extend_from_slice(string.as_bytes());
}
