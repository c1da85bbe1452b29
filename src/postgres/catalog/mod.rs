//! What the catalog says of the tables, keys and indexes that a plan names.

mod index;
mod indexed;
mod key;
mod lookup;
mod near;
mod rights;
mod table;

pub use index::{BEING_BUILT, IndexState, index_state};
pub use indexed::{
    Existing, Indexed, Node, PartOfIndex, Place, attached, indexes, is_at_work_on, parts_of_index, relation, taken,
    tree,
};
pub use lookup::{columns, table};
pub use near::near;
pub use rights::{may_write_parts, row_security_notices};
pub use table::{Column, Part, Table, Writes};
