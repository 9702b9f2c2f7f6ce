"""The part of make_fixtures.py that writes plain pickles, which the tests of the pickle reader load."""

import pickle


def integers():
    """Give integers on both sides of every size that pickle encodes apart."""
    edges = [0, 2**7, 2**8, 2**15, 2**16, 2**31, 2**32, 2**63, 2**64]
    near = [sign * (edge + step) for edge in edges for step in (-1, 0, 1) for sign in (1, -1)]
    return near + [2**2000, -(2**2000), 2**2039 - 1, 2**2039, -(2**2039), -(2**2039) - 1]


def plain_values():
    """Give plain Python values by topic; sets hold only ints, whose order is settled."""
    shared_list, shared_text = [1, 2], "shared text"
    return {
        "singletons": [None, True, False, [None], {"a": True}],
        "ints": integers(),
        "floats": [0.0, -0.0, 1.0, 0.1, -1e308, 5e-324, float("inf"), float("-inf"), float("nan"), 123456789.125],
        "strings": ["", "plain", "é", "重み", "🙂", "line\nfeed", "tab\tquote'\"", "back\\slash", "\\u0041", "nul\x00",
                    "\x1a\r",
                    "\u2028", "x" * 255, "y" * 256, "ü" * 200],
        "bytes": [b"", b"abc", bytes(range(256)), b"\xff" * 300],
        "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), (1, 2, 3, 4, 5), ((), ((1,),))],
        "containers": {"list": [], "nested": [[1], [[2, "x"]]], "dict": {}, "deep": {"a": {"b": {1: (2, None)}}},
                       5: -5},
        "sets": [set(), {1}, {3, 1, 2}, frozenset(), frozenset({7}), frozenset({4, 5, 6})],
        "shared": [shared_list, shared_list, {"x": shared_list, "y": (shared_list, shared_text)}, shared_text,
                   [shared_text]],
        "long_list": [i % 3 == 0 for i in range(2001)],
        "long_dict": {i: None for i in range(2001)},
    }


def recursive_values():
    """Give a list, a dict and a tuple that contain themselves."""
    own_list, own_dict, inner = [1], {"a": 1}, []
    own_list.append(own_list)
    own_dict["self"] = own_dict
    own_tuple = (1, inner)
    inner.append(own_tuple)
    longer = []
    own_longer = (1, 2, 3, longer)
    longer.append(own_longer)
    return [own_list, own_dict, own_tuple, own_longer]


def pickle_files(book):
    """Write plain pickles in every protocol."""
    for topic, value in {**plain_values(), "recursive": recursive_values()}.items():
        for protocol in range(6):
            file = f"pickle/{topic}_{protocol}.pkl"
            book.write(file, f"plain Python {topic} in pickle protocol {protocol}", pickle.dumps(value, protocol))
