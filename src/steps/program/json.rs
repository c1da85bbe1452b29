//! JSON for scripts, with every digit: what has no exact type in a script is carried as it is written.

use std::fmt::Write as _;

use rhai::{Array, Dynamic, Engine, EvalAltResult, ImmutableString, Map};
use serde_json::value::RawValue;

/// Values within values.
const DEPTH: usize = 128;
/// Decimal digits that a double holds, whichever they are.
const DIGITS: usize = 15;

/// A number of JSON that is neither an `i64` nor exact as a double, as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Number(pub ImmutableString);

/// Gives an engine `parse_json` and `to_json`.
pub fn register(engine: &mut Engine) {
    engine.register_type_with_name::<Number>("number");
    engine.register_fn("to_string", |number: &mut Number| number.0.clone());
    engine.register_fn("to_debug", |number: &mut Number| number.0.clone());
    engine.register_fn("==", |a: Number, b: Number| a == b);
    engine.register_fn("parse_json", |text: &str| {
        let value: &RawValue = serde_json::from_str(text).map_err(|e| Box::<EvalAltResult>::from(e.to_string()))?;
        parse(value.get(), 0).map_err(Box::<EvalAltResult>::from)
    });
    engine.register_fn("to_json", |value: Dynamic| {
        let mut text = String::new();
        write(&value, &mut text, 0).map_err(Box::<EvalAltResult>::from)?;
        Ok::<_, Box<EvalAltResult>>(text)
    });
    // A map has one of its own, which is found first.
    engine.register_fn("to_json", |map: &mut Map| {
        let mut text = String::new();
        write_map(map, &mut text, 0).map_err(Box::<EvalAltResult>::from)?;
        Ok::<_, Box<EvalAltResult>>(text)
    });
}

/// A value of JSON as a script knows it. Integers of up to 64 bits are integers; numbers that a double holds exactly as
/// they are written are floats; others are a [`Number`].
///
/// # Errors
/// It is not JSON, or too deep.
pub fn parse(text: &str, depth: usize) -> Result<Dynamic, String> {
    if depth > DEPTH {
        return Err(format!("JSON deeper than {DEPTH} levels"));
    }
    let text = text.trim();
    let said = |e: serde_json::Error| e.to_string();
    match text.as_bytes().first() {
        Some(b'{') => {
            let Pairs(pairs) = serde_json::from_str(text).map_err(said)?;
            let pairs = pairs.into_iter().map(|(name, value)| Ok((name.into(), parse(value.get(), depth + 1)?)));
            Ok(Dynamic::from_map(pairs.collect::<Result<Map, String>>()?))
        }
        Some(b'[') => {
            let values: Vec<&RawValue> = serde_json::from_str(text).map_err(said)?;
            let values = values.into_iter().map(|value| parse(value.get(), depth + 1));
            Ok(Dynamic::from_array(values.collect::<Result<Array, String>>()?))
        }
        Some(b'"') => Ok(serde_json::from_str::<String>(text).map_err(said)?.into()),
        _ => match text {
            "null" => Ok(Dynamic::UNIT),
            "true" => Ok(true.into()),
            "false" => Ok(false.into()),
            number => Ok(parse_number(number)),
        },
    }
}

/// An object's members, in order; of two of one name the last one counts, as everywhere.
struct Pairs<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Vec<(String, &'de RawValue)>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(pairs)
            }
        }
        deserializer.deserialize_map(Visitor).map(Pairs)
    }
}

/// The members of an object, in order, each value as it is written.
///
/// # Errors
/// It is not an object.
pub fn members(text: &str) -> Result<Vec<(String, &RawValue)>, String> {
    serde_json::from_str(text).map(|Pairs(pairs)| pairs).map_err(|e| e.to_string())
}

fn parse_number(text: &str) -> Dynamic {
    if let Ok(n) = text.parse::<i64>()
        && text != "-0"
    {
        return n.into();
    }
    let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let significant = digits.trim_start_matches('0').len();
    let is_fraction = text.contains(['.', 'e', 'E']);
    match text.parse::<f64>() {
        // Subnormal doubles hold fewer digits.
        Ok(n)
            if is_fraction
                && significant <= DIGITS
                && (n == 0.0 || n.is_normal())
                && (n != 0.0) == (significant > 0) =>
        {
            n.into()
        }
        _ => Dynamic::from(Number(text.into())),
    }
}

/// Writes a script's value as JSON.
///
/// # Errors
/// It has no form in JSON, or is too deep.
pub fn write(value: &Dynamic, to: &mut String, depth: usize) -> Result<(), String> {
    if depth > DEPTH {
        return Err(format!("values deeper than {DEPTH} levels"));
    }
    if value.is_unit() {
        to.push_str("null");
    } else if let Ok(n) = value.as_int() {
        let _ = write!(to, "{n}");
    } else if let Ok(b) = value.as_bool() {
        to.push_str(if b { "true" } else { "false" });
    } else if let Ok(n) = value.as_float() {
        if !n.is_finite() {
            return Err(format!("{n} has no form in JSON"));
        }
        to.push_str(&serde_json::to_string(&n).unwrap_or_default());
    } else if let Ok(text) = value.as_immutable_string_ref() {
        write_text(&text, to);
    } else if let Ok(c) = value.as_char() {
        write_text(c.encode_utf8(&mut [0; 4]), to);
    } else if let Ok(array) = value.as_array_ref() {
        to.push('[');
        for (at, value) in array.iter().enumerate() {
            if at > 0 {
                to.push(',');
            }
            write(value, to, depth + 1)?;
        }
        to.push(']');
    } else if let Ok(map) = value.as_map_ref() {
        write_map(&map, to, depth)?;
    } else if let Ok(n) = value.as_decimal() {
        let _ = write!(to, "{n}");
    } else if let Some(number) = value.read_lock::<Number>() {
        to.push_str(&number.0);
    } else {
        return Err(format!("a value of type {} has no form in JSON", value.type_name()));
    }
    Ok(())
}

fn write_map(map: &Map, to: &mut String, depth: usize) -> Result<(), String> {
    to.push('{');
    for (at, (name, value)) in map.iter().enumerate() {
        if at > 0 {
            to.push(',');
        }
        write_text(name, to);
        to.push(':');
        write(value, to, depth + 1)?;
    }
    to.push('}');
    Ok(())
}

fn write_text(text: &str, to: &mut String) {
    // A string is always JSON.
    to.push_str(&serde_json::to_string(text).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(text: &str) -> String {
        let mut written = String::new();
        write(&parse(text, 0).expect(text), &mut written, 0).expect(text);
        written
    }

    #[test]
    fn every_digit_comes_back() {
        for number in [
            "0",
            "-1",
            "9223372036854775807",
            "18446744073709551616",
            "0.1",
            "-2.5",
            "12345678901234567890.123456789",
            "1e400",
            "-0",
            "5e-324",
        ] {
            assert_eq!(through(number), number);
        }
        assert_eq!(
            through(" {\"b\": [1, null, true, \"\\u00e9\\n\"], \"a\": {}} "),
            "{\"a\":{},\"b\":[1,null,true,\"é\\n\"]}"
        );
        assert_eq!(through("1.50"), "1.5");
    }

    #[test]
    fn what_is_too_deep_is_refused() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        parse(&deep, 0).expect_err("too deep");
    }
}
