//! The opcodes, under the names of Python's `pickle` module (Lib/pickle.py).

pub const MARK: u8 = b'('; // push a mark
pub const STOP: u8 = b'.'; // the top of the stack is the result
pub const POP: u8 = b'0'; // discard the top of the stack
pub const POP_MARK: u8 = b'1'; // discard down to the mark
pub const DUP: u8 = b'2'; // push the top of the stack again
pub const FLOAT: u8 = b'F'; // float as text
pub const INT: u8 = b'I'; // int or bool as text
pub const BININT: u8 = b'J'; // i32
pub const BININT1: u8 = b'K'; // u8
pub const LONG: u8 = b'L'; // int as text with a trailing L
pub const BININT2: u8 = b'M'; // u16
pub const NONE: u8 = b'N';
pub const PERSID: u8 = b'P'; // persistent id as text
pub const BINPERSID: u8 = b'Q'; // persistent id from the stack
pub const REDUCE: u8 = b'R'; // callable, args -> callable(*args)
pub const STRING: u8 = b'S'; // Python 2 str as quoted text
pub const BINSTRING: u8 = b'T'; // Python 2 str, i32 length
pub const SHORT_BINSTRING: u8 = b'U'; // Python 2 str, u8 length
pub const UNICODE: u8 = b'V'; // str as raw-unicode-escape text
pub const BINUNICODE: u8 = b'X'; // str as UTF-8, u32 length
pub const APPEND: u8 = b'a'; // list, item -> list
pub const BUILD: u8 = b'b'; // object, state -> object
pub const GLOBAL: u8 = b'c'; // module and name as two lines
pub const DICT: u8 = b'd'; // mark, key, value, … -> dict
pub const EMPTY_DICT: u8 = b'}';
pub const APPENDS: u8 = b'e'; // list, mark, items -> list
pub const GET: u8 = b'g'; // memo index as text
pub const BINGET: u8 = b'h'; // memo index u8
pub const INST: u8 = b'i'; // mark, args -> instance of the class named in two lines
pub const LONG_BINGET: u8 = b'j'; // memo index u32
pub const LIST: u8 = b'l'; // mark, items -> list
pub const EMPTY_LIST: u8 = b']';
pub const OBJ: u8 = b'o'; // mark, class, args -> instance
pub const PUT: u8 = b'p'; // memo index as text
pub const BINPUT: u8 = b'q'; // memo index u8
pub const LONG_BINPUT: u8 = b'r'; // memo index u32
pub const SETITEM: u8 = b's'; // dict, key, value -> dict
pub const TUPLE: u8 = b't'; // mark, items -> tuple
pub const EMPTY_TUPLE: u8 = b')';
pub const SETITEMS: u8 = b'u'; // dict, mark, key, value, … -> dict
pub const BINFLOAT: u8 = b'G'; // f64, big endian

pub const PROTO: u8 = 0x80; // protocol version u8
pub const NEWOBJ: u8 = 0x81; // class, args -> class.__new__(class, *args)
pub const EXT1: u8 = 0x82; // extension registry, never used by torch
pub const EXT2: u8 = 0x83;
pub const EXT4: u8 = 0x84;
pub const TUPLE1: u8 = 0x85;
pub const TUPLE2: u8 = 0x86;
pub const TUPLE3: u8 = 0x87;
pub const NEWTRUE: u8 = 0x88;
pub const NEWFALSE: u8 = 0x89;
pub const LONG1: u8 = 0x8a; // int, u8 length, two's complement little endian
pub const LONG4: u8 = 0x8b; // int, i32 length

pub const BINBYTES: u8 = b'B'; // bytes, u32 length
pub const SHORT_BINBYTES: u8 = b'C'; // bytes, u8 length

pub const SHORT_BINUNICODE: u8 = 0x8c; // str, u8 length
pub const BINUNICODE8: u8 = 0x8d; // str, u64 length
pub const BINBYTES8: u8 = 0x8e; // bytes, u64 length
pub const EMPTY_SET: u8 = 0x8f;
pub const ADDITEMS: u8 = 0x90; // set, mark, items -> set
pub const FROZENSET: u8 = 0x91; // mark, items -> frozenset
pub const NEWOBJ_EX: u8 = 0x92; // class, args, kwargs -> instance
pub const STACK_GLOBAL: u8 = 0x93; // module, name -> global
pub const MEMOIZE: u8 = 0x94; // memo[len(memo)] = top
pub const FRAME: u8 = 0x95; // u64 length of what follows

pub const BYTEARRAY8: u8 = 0x96; // bytearray, u64 length
pub const NEXT_BUFFER: u8 = 0x97; // out-of-band buffer
pub const READONLY_BUFFER: u8 = 0x98;
