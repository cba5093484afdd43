"""What every operator does to channels, one table; an operator that is not in it blocks all that it touches."""

from toolchain.channels.rules import elementwise, layout, products, recurrent, reshaping, statistics
from toolchain.channels.rules.common import Rule

RULES: dict[tuple[str, str], Rule] = {
    **elementwise.RULES,
    **layout.RULES,
    **products.RULES,
    **recurrent.RULES,
    **reshaping.RULES,
    **statistics.RULES,
}
