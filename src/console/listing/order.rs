//! What rows are sorted by.

use std::cmp::Ordering;
use std::time::Duration;

/// What stands in a column, for sorting.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// Nothing is known: it goes to the end in either order.
    None,
    /// A number.
    Number(f64),
    /// A text, in any case of letters.
    Text(String),
}

impl Value {
    pub(crate) fn text(text: &str) -> Self {
        Self::Text(text.to_lowercase())
    }

    #[expect(clippy::cast_precision_loss, reason = "only for the order of rows")]
    pub(crate) fn count(n: u64) -> Self {
        Self::Number(n as f64)
    }

    pub(crate) fn number(number: Option<f64>) -> Self {
        number.filter(|number| !number.is_nan()).map_or(Self::None, Self::Number)
    }

    pub(crate) fn duration(duration: Option<Duration>) -> Self {
        Self::number(duration.map(|duration| duration.as_secs_f64()))
    }
}

/// The order of two rows by what stands in the column that they are sorted by.
pub(crate) fn compare(a: &Value, b: &Value, from_the_largest: bool) -> Ordering {
    let order = match (a, b) {
        (Value::None, Value::None) => return Ordering::Equal,
        (Value::None, Value::Number(_) | Value::Text(_)) => return Ordering::Greater,
        (Value::Number(_) | Value::Text(_), Value::None) => return Ordering::Less,
        (Value::Number(a), Value::Number(b)) => a.total_cmp(b),
        (Value::Text(a), Value::Text(b)) => a.cmp(b),
        (Value::Number(_), Value::Text(_)) => Ordering::Less,
        (Value::Text(_), Value::Number(_)) => Ordering::Greater,
    };
    if from_the_largest { order.reverse() } else { order }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_goes_to_the_end_in_either_order() {
        let values = [Value::None, Value::Number(2.0), Value::number(Some(f64::NAN)), Value::Number(7.0)];
        let sorted = |from_the_largest| {
            let mut values = values.to_vec();
            values.sort_by(|a, b| compare(a, b, from_the_largest));
            values
        };
        let number = Value::Number;
        assert_eq!(sorted(false), [number(2.0), number(7.0), Value::None, Value::None]);
        assert_eq!(sorted(true), [number(7.0), number(2.0), Value::None, Value::None]);
    }

    #[test]
    fn texts_are_sorted_in_any_case_of_letters() {
        assert_eq!(compare(&Value::text("Orders"), &Value::text("users"), false), Ordering::Less);
        assert_eq!(compare(&Value::text("Users"), &Value::text("orders"), false), Ordering::Greater);
    }
}
