//! The header's JSON, read entry by entry so that duplicate names and ill-typed fields are seen and named.

use std::{collections::HashSet, fmt};

use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor},
};

/// The entry of one tensor in the header, unchecked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawEntry {
    pub dtype: String,
    pub shape: Vec<u64>,
    pub data_offsets: (u64, u64),
}

/// The header as written: metadata and tensors in order.
#[derive(Debug, Default)]
pub struct RawHeader {
    pub metadata: Vec<(String, String)>,
    pub tensors: Vec<(String, RawEntry)>,
}

/// Parses a header.
///
/// # Errors
/// Returns an error if `text` is not a JSON object of the expected fields; the message names the tensor and the column.
pub fn parse(text: &str) -> Result<RawHeader, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let header = deserializer.deserialize_map(HeaderVisitor)?;
    deserializer.end()?;
    Ok(header)
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = RawHeader;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
        let mut header = RawHeader::default();
        let mut names = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if !names.insert(name.clone()) {
                return Err(Error::custom(format_args!("'{name}' is there twice")));
            }
            if name == "__metadata__" {
                header.metadata = map.next_value_seed(Named("__metadata__", MapOrNull))?;
            } else {
                let entry = map.next_value_seed(Named(&name, Plain))?;
                header.tensors.push((name, entry));
            }
        }
        Ok(header)
    }
}

/// Puts the name of the value before the error that it gives.
struct Named<'a, S>(&'a str, S);

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Named<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        self.1.deserialize(deserializer).map_err(|error| D::Error::custom(format_args!("'{}': {error}", self.0)))
    }
}

/// A tensor's entry.
struct Plain;

impl<'de> DeserializeSeed<'de> for Plain {
    type Value = RawEntry;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<RawEntry, D::Error> {
        deserializer.deserialize_map(EntryVisitor)
    }
}

struct EntryVisitor;

impl<'de> Visitor<'de> for EntryVisitor {
    type Value = RawEntry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of dtype, shape and data_offsets")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawEntry, A::Error> {
        // Through the map alone: the derived reader would take an array of three as well.
        RawEntry::deserialize(serde::de::value::MapAccessDeserializer::new(map))
    }
}

/// An object of strings, each key once.
pub struct StringMap;

impl<'de> DeserializeSeed<'de> for StringMap {
    type Value = Vec<(String, String)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

/// The same, or null, which MLX writes where there is none.
struct MapOrNull;

impl<'de> DeserializeSeed<'de> for MapOrNull {
    type Value = Vec<(String, String)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for MapOrNull {
    type Value = Vec<(String, String)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of strings")
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        StringMap.deserialize(deserializer)
    }
}

impl<'de> Visitor<'de> for StringMap {
    type Value = Vec<(String, String)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::new();
        let mut keys = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if !keys.insert(key.clone()) {
                map.next_value::<IgnoredAny>()?;
                return Err(Error::custom(format_args!("'{key}' is there twice")));
            }
            pairs.push((key, map.next_value()?));
        }
        Ok(pairs)
    }
}
