//! Why a value was refused, and what to write instead.

use std::fmt;

/// A value that was refused.
///
/// The message says what is wrong with it, in a lower-case fragment; the help says what to write
/// instead. `code` is the rule's stable name, as findings show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The rule's name in kebab case, such as `wrong-unit`.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

impl Invalid {
    /// Makes a refusal out of its three parts.
    pub fn new(code: &'static str, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { code, message: message.into(), help: help.into() }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.message, self.help)
    }
}

impl std::error::Error for Invalid {}

/// Reads a value of a file from its text, and names its form in the schema.
///
/// The pair of `Deserialize` and `JsonSchema` that each newtype of the files has, so that a refused
/// text arrives as a finding with its help.
#[macro_export]
macro_rules! text_value {
    ($type:ty, $schema_name:expr, $schema:tt) => {
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(|e: $crate::model::Invalid| e.into_serde())
            }
        }

        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $schema_name.into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!($schema)
            }
        }
    };
}

/// Begins and separates code, message and help where a refusal travels through an error that carries
/// only text. It cannot stand in a file that was read.
pub(crate) const SEPARATOR: char = '\u{1f}';

impl Invalid {
    /// Carries the refusal through serde, whose errors hold only text.
    pub fn into_serde<E: serde::de::Error>(self) -> E {
        E::custom(format_args!("{SEPARATOR}{}{SEPARATOR}{}{SEPARATOR}{}", self.code, self.message, self.help))
    }
}
