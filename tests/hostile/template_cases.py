"""Chat templates that ask for all time or memory, or for what lies outside."""

# What each does, and why it is refused. Each ends within seconds, and in the helper process: the caller's own memory
# does not grow.
ENDLESS = {
    "loops in loops": (
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "fuel|longer than",
    ),
    "a text that doubles": (
        "{% set ns = namespace(s='x') %}{% for i in range(40) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "memory",
    ),
    "a list that doubles": (
        "{% set ns = namespace(s=[1]) %}{% for i in range(40) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
        "memory|longer than|fuel",
    ),
    "a text of 20 million letters": ("{{ 'x' * 20000000 }}", "more than 2097152 characters"),
    "a text of 2^60 letters": ("{{ 'x' * 1152921504606846976 }}", "cannot be rendered"),
    "a text from a long loop": ("{% for a in range(99999) %}{{ 'x' * 1000 }}{% endfor %}", "more than|memory"),
    "a macro that calls itself": ("{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}", "cannot be rendered"),
    "two macros that call each other": (
        "{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}{{ f() }}{% endmacro %}{{ f() }}",
        "cannot be rendered",
    ),
    "a range beyond all": ("{{ range(99999999999) | list | length }}", "cannot be rendered"),
    "a number beyond all": ("{{ 10 ** 1000000 }}", "cannot be rendered"),
    "parentheses without end": ("{{ " + "(" * 100_000 + "1" + ")" * 100_000 + " }}", "cannot be rendered"),
    "blocks without end": ("{% if 1 %}" * 100_000, "cannot be rendered"),
    "a long sort": ("{{ range(99999) | list | tojson | list | sort | join | length }}" * 100, "memory|longer|fuel"),
    "an indent of a billion": ("{{ messages | tojson(indent=1000000000) }}", "memory|more than|longer"),
    "a format of a billion": ("{{ '%1000000000d' % 1 }}", "cannot be rendered"),
}

# Templates that refuse the messages at length.
LONG_REFUSAL = "{{ raise_exception('x' * 20000000) }}"
