//! JSON from strangers: parsed into no more values than allowed.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::limits::{Budget, Limit, Limits};

/// What is left for the values of one JSON text.
pub struct Values {
    left: Budget,
    exceeded: Option<Error>,
}

/// Parses `text` by `seed`, which charges for values; `broken` makes the error for what is no such JSON.
///
/// # Errors
/// [`Limit`](crate::ErrorKind::Limit) for too many values, and what `broken` returns.
pub fn parse<T>(
    text: &[u8],
    limits: &Limits,
    seed: impl FnOnce(
        &mut serde_json::Deserializer<serde_json::de::SliceRead>,
        &mut Values,
    ) -> serde_json::Result<T>,
    broken: impl FnOnce(serde_json::Error) -> Error,
) -> Result<T> {
    let mut values = Values {
        left: limits.budget(Limit::JsonValues),
        exceeded: None,
    };
    let mut json = serde_json::Deserializer::from_slice(text);
    let parsed = seed(&mut json, &mut values).and_then(|parsed| json.end().map(|()| parsed));
    parsed.map_err(|error| values.exceeded.unwrap_or_else(|| broken(error)))
}

impl Values {
    /// Takes a value off.
    pub fn charge<E: serde::de::Error>(&mut self) -> Result<(), E> {
        self.left.charge(1).map_err(|error| {
            let message = error.message().to_owned();
            self.exceeded = Some(error);
            E::custom(message)
        })
    }
}

/// An object of strings.
pub struct Strings<'v>(pub &'v mut Values);

impl<'de> DeserializeSeed<'de> for Strings<'_> {
    type Value = BTreeMap<String, String>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Strings<'_> {
    type Value = BTreeMap<String, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut found = BTreeMap::new();
        while let Some((key, value)) = entries.next_entry()? {
            self.0.charge()?;
            found.insert(key, value);
        }
        Ok(found)
    }
}

/// Any value.
pub struct Any<'v>(pub &'v mut Values);

impl<'de> DeserializeSeed<'de> for Any<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Value, D::Error> {
        self.0.charge()?;
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Any<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut found = Vec::new();
        while let Some(item) = items.next_element_seed(Any(self.0))? {
            found.push(item);
        }
        Ok(Value::Array(found))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut found = Map::new();
        while let Some(key) = entries.next_key()? {
            found.insert(key, entries.next_value_seed(Any(self.0))?);
        }
        Ok(Value::Object(found))
    }
}

/// An object, or nothing.
pub struct Object<'v>(pub &'v mut Values);

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = Option<Map<String, Value>>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        match Any(self.0).deserialize(json)? {
            Value::Null => Ok(None),
            Value::Object(found) => Ok(Some(found)),
            _ => Err(D::Error::custom("what should be an object is none")),
        }
    }
}
