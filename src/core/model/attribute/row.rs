//! What is known of one attribute, and how the tables of them are written down.

use std::fmt;

/// An attribute of a resource. There is one value of each, so that two are equal only where they are the same one.
pub struct Attribute {
    /// Its name in plans as data, in records, and in the canonical form where it is part of that.
    pub name: &'static str,
    /// Its name for people: the engine counts billionths of a processor, they do not.
    pub label: &'static str,
    /// What a number of it counts.
    pub unit: Unit,
    /// The setting of a tenant's file that it is made from, such as `limits.memory`.
    pub setting: Option<&'static str>,
    /// How a difference is put right.
    pub repair: Repair,
    /// When an actual value isolates less than the declared one.
    pub weakens: Weakens,
    /// Whether a commit or the host's settings may change it. A difference that comes from there asks for less, and weakens
    /// nothing that was declared.
    pub settable: bool,
    /// Whether it identifies an object; the rest is the same for all tenants. Records of objects that are made
    /// or removed have these.
    pub identifies: bool,
    /// The attribute that says the same, where few words must do.
    pub reported_by: Option<&'static str>,
    /// Whether it is part of the canonical form. Of the others the planner judges each difference where it finds it.
    pub is_of_form: bool,
}

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things, or nothing that has a unit.
    Number,
    /// Bytes.
    Bytes,
    /// Billionths of a processor.
    Cpus,
}

/// How an attribute of a container that differs is put right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// By `update`, where the runtime class can; else by a new container. It is a limit, of which zero is none, and is no part
    /// of the fingerprint: that stands in a label, which cannot follow it.
    Limit,
    /// By `update`, where the runtime class can; else by a new container.
    Update,
    /// By `rename`.
    Rename,
    /// By a new container.
    Replace,
}

/// When an actual value isolates less than the declared one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weakens {
    /// Whatever it is.
    Always,
    /// When it is a higher limit, or none.
    Higher,
    /// Never: it changes what runs, not how it is contained.
    Never,
}

impl PartialEq for Attribute {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl fmt::Debug for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Attribute {
    /// One of which nothing else is said is put right by a new object and counts as weaker: an attribute that is added to the
    /// canonical form errs on the safe side.
    pub(in crate::model) const fn new(name: &'static str) -> Self {
        Self {
            name,
            label: name,
            unit: Unit::Number,
            setting: None,
            repair: Repair::Replace,
            weakens: Weakens::Always,
            settable: false,
            identifies: false,
            reported_by: None,
            is_of_form: true,
        }
    }

    pub(in crate::model) const fn label(self, label: &'static str) -> Self {
        Self { label, ..self }
    }

    pub(in crate::model) const fn unit(self, unit: Unit) -> Self {
        Self { unit, ..self }
    }

    pub(in crate::model) const fn setting(self, setting: &'static str) -> Self {
        Self { setting: Some(setting), ..self }
    }

    pub(in crate::model) const fn repair(self, repair: Repair) -> Self {
        Self { repair, ..self }
    }

    pub(in crate::model) const fn weakens(self, weakens: Weakens) -> Self {
        Self { weakens, ..self }
    }

    pub(in crate::model) const fn limit(self, unit: Unit) -> Self {
        Self { unit, repair: Repair::Limit, weakens: Weakens::Higher, settable: true, ..self }
    }

    pub(in crate::model) const fn settable(self) -> Self {
        Self { settable: true, ..self }
    }

    pub(in crate::model) const fn identifies(self) -> Self {
        Self { identifies: true, ..self }
    }

    pub(in crate::model) const fn reported_by(self, other: &'static str) -> Self {
        Self { reported_by: Some(other), ..self }
    }

    pub(in crate::model) const fn judged(self) -> Self {
        Self { is_of_form: false, ..self }
    }

    /// Whether it is a limit that can change on a container that lives.
    pub fn is_limit(&self) -> bool {
        self.repair == Repair::Limit
    }

    /// Whether the engine's update of a container puts it right.
    pub fn is_updated(&self) -> bool {
        matches!(self.repair, Repair::Limit | Repair::Update)
    }
}

/// One that is in no table. It weakens and replaces.
pub static FORGOTTEN: Attribute = Attribute::new("unknown");

/// A table of attributes that the planner judges where it finds them.
macro_rules! table {
    ($(#[$doc:meta])* $table:ident { $($row:ident = $name:literal $(.$method:ident($($argument:expr),*))*;)* }) => {
        $(#[$doc])*
        #[expect(missing_docs, reason = "each row says what its attribute is")]
        pub mod $table {
            use super::*;

            $(pub static $row: Attribute = Attribute::new($name)$(.$method($($argument),*))*;)*

            /// All of them.
            pub static ALL: &[&Attribute] = &[$(&$row),*];
        }
    };
}

/// A canonical form with the row of each of its attributes beside the field, and rows of what the planner judges beside the form.
/// Neither a field nor its row can be without the other.
macro_rules! form {
    (
        $(#[$doc:meta])*
        $form:ident {
            $($(#[$about:meta])* $field:ident: $type:ty = $row:ident $(.$method:ident($($argument:expr),*))*;)*
        }
        beside {
            $($other:ident = $name:literal $(.$how:ident($($with:expr),*))*;)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub struct $form {
            $($(#[$about])* pub $field: $type,)*
        }

        /// What is known of each attribute. Those that distinguish one object from another come first, in the order of records.
        #[expect(missing_docs, reason = "each row says what its attribute is")]
        pub mod attributes {
            use super::*;

            $(pub static $row: Attribute = Attribute::new(stringify!($field))$(.$method($($argument),*))*;)*
            $(pub static $other: Attribute = Attribute::new($name).judged()$(.$how($($with),*))*;)*

            /// All of them.
            pub static ALL: &[&Attribute] = &[$(&$row,)* $(&$other),*];
        }
    };
}

pub(in crate::model) use {form, table};
