//! Values that may be written in more than one way. They are read without a detour through a buffer, as serde's untagged
//! enums would take: that way, what is inside keeps its place in the text.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::raw::{Located, Text};

/// A text, or a list of texts.
#[derive(Debug)]
pub(super) enum RawTexts {
    One(String),
    List(Vec<Text>),
}

impl RawTexts {
    pub(super) fn into_list(located: Located<Self>) -> Vec<Text> {
        match located.value {
            Self::One(value) => vec![Text { value, span: located.span }],
            Self::List(list) => list,
        }
    }
}

impl<'de> Deserialize<'de> for RawTexts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;

        impl<'de> Visitor<'de> for Texts {
            type Value = RawTexts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of strings")
            }

            fn visit_str<E>(self, text: &str) -> Result<RawTexts, E> {
                Ok(RawTexts::One(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<RawTexts, A::Error> {
                let mut list = Vec::new();
                while let Some(text) = items.next_element()? {
                    list.push(text);
                }
                Ok(RawTexts::List(list))
            }
        }

        deserializer.deserialize_any(Texts)
    }
}

impl JsonSchema for RawTexts {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Texts".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" }, "minItems": 1 }] })
    }
}

/// An index by its name, or a table that says which index or which table.
#[derive(Debug)]
pub(super) enum RawReindex {
    Index(String),
    Of(RawRebuilt),
}

/// What is built anew.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct RawRebuilt {
    /// One index, written as in SQL.
    pub(super) index: Option<Text>,
    /// A table, written as in SQL: all of its indexes.
    pub(super) table: Option<Text>,
}

impl<'de> Deserialize<'de> for RawReindex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reindex;

        impl<'de> Visitor<'de> for Reindex {
            type Value = RawReindex;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, or a table of `index` or `table`")
            }

            fn visit_str<E>(self, text: &str) -> Result<RawReindex, E> {
                Ok(RawReindex::Index(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawReindex, A::Error> {
                RawRebuilt::deserialize(MapAccessDeserializer::new(map)).map(RawReindex::Of)
            }
        }

        deserializer.deserialize_any(Reindex)
    }
}

impl JsonSchema for RawReindex {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Reindex".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let of = RawRebuilt::json_schema(generator);
        json_schema!({ "anyOf": [{ "type": "string" }, of] })
    }
}

/// A signal's limits: both in a table, `slow` alone, or "off".
#[derive(Debug)]
pub(super) enum RawSignal<T> {
    Text(String),
    Whole(i64),
    Limits(RawThreshold<T>),
}

/// The limits of a signal, in a table.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct RawThreshold<T> {
    /// Past this, batches wait.
    pub(super) slow: Option<Located<T>>,
    /// Past this, the run is paused.
    pub(super) stop: Option<Located<T>>,
}

/// What a limit is written as: a text with its unit, or a whole number.
pub(super) trait Scalar: Sized {
    fn of_text(text: String) -> Option<Self>;
    fn of_whole(number: i64) -> Option<Self>;
}

impl Scalar for String {
    fn of_text(text: String) -> Option<Self> {
        Some(text)
    }

    fn of_whole(_: i64) -> Option<Self> {
        None
    }
}

impl Scalar for i64 {
    fn of_text(_: String) -> Option<Self> {
        None
    }

    fn of_whole(number: i64) -> Option<Self> {
        Some(number)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for RawSignal<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Signal<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Signal<T> {
            type Value = RawSignal<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of `slow` and `stop`, `slow` alone, or \"off\"")
            }

            fn visit_str<E>(self, text: &str) -> Result<RawSignal<T>, E> {
                Ok(RawSignal::Text(text.to_owned()))
            }

            fn visit_i64<E>(self, number: i64) -> Result<RawSignal<T>, E> {
                Ok(RawSignal::Whole(number))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawSignal<T>, A::Error> {
                RawThreshold::deserialize(MapAccessDeserializer::new(map)).map(RawSignal::Limits)
            }
        }

        deserializer.deserialize_any(Signal(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for RawSignal<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Signal_of_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (limits, slow) = (RawThreshold::<T>::json_schema(generator), T::json_schema(generator));
        json_schema!({ "anyOf": [limits, slow, { "type": "string", "const": "off" }] })
    }
}
