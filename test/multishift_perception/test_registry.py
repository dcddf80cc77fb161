# SPDX-License-Identifier: Apache-2.0
"""Names are given once; what installed packages offer is found, and told of where it is broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
import subprocess
import sys
from typing import Any, Literal

from click.testing import CliRunner
import pytest

from multishift_perception.cli.main import multishift
from multishift_perception.errors import MultishiftError
from multishift_perception.registry import Registry
from multishift_training import methods, models, scores
from multishift_training.datasets.kinds import kinds
from multishift_training.methods import Context, Method
from multishift_training.scores import Score

CODE = """
from pathlib import Path
from typing import ClassVar, Literal

from multishift_training.datasets.kinds import ImageSet
from multishift_training.datasets.tables import table_of
from multishift_training.methods import Method
from multishift_training.scores import Score


class Mine(Method):
    kind: Literal['mine']

    def losses(self, prediction, batch, context):
        return {}


class Street(ImageSet):
    kind: Literal['my_street']
    domain: ClassVar[str] = 'street'
    has_classes: ClassVar[bool] = True
    learns_novel: ClassVar[bool] = False
    may_be_partner: ClassVar[bool] = False

    def entries(self, root: Path, cache: Path):
        return []

    def table(self, root: Path):
        return table_of({})


SCORE = Score('my_score', 'offered:compute')


def network(num_classes):
    raise NotImplementedError
"""
OFFERS = {
    'multishift.methods': 'mine = offered:Mine',
    'multishift.datasets': 'my_street = offered:Street',
    'multishift.scores': 'my_score = offered:SCORE',
    'multishift.networks': 'my_network = offered:network',
}

Offer = Callable[..., None]


@pytest.fixture
def offer(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    own_registries: Callable[[], AbstractContextManager[None]],
) -> Iterator[Offer]:
    """Return a function that installs a package with entry points, for as long as the test."""

    def install(offers: dict[str, str], code: str = CODE) -> None:
        (tmp_path / 'offered.py').write_text(code)
        info = tmp_path / 'my_streets-1.0.dist-info'
        info.mkdir()
        (info / 'METADATA').write_text('Metadata-Version: 2.1\nName: my-streets\nVersion: 1.0\n')
        lines = [f'[{group}]\n{line}\n' for group, line in offers.items()]
        (info / 'entry_points.txt').write_text('\n'.join(lines))
        monkeypatch.syspath_prepend(str(tmp_path))

    with own_registries():
        yield install
    sys.modules.pop('offered', None)


def test_what_packages_offer_is_found_when_it_is_looked_for(offer: Offer) -> None:
    offer(OFFERS)
    assert 'offered' not in sys.modules
    assert 'mine' in methods.METHODS
    assert 'offered' in sys.modules
    assert 'Street' in {kind.__name__ for kind in kinds()}
    assert 'my_network' in models.NAMES
    assert scores.find_score('my_score') is sys.modules['offered'].SCORE
    # Whoever registers by hand what is offered, too, does no harm.
    methods.register(sys.modules['offered'].Mine)


def test_commands_know_it(offer: Offer, tmp_path: Path) -> None:
    offer(OFFERS)
    (tmp_path / 'sets.yaml').write_text('one: {kind: my_streets}')
    command = ['evaluate', str(tmp_path / 'sets.yaml'), '--out', str(tmp_path / 'out')]
    done = CliRunner().invoke(multishift, command)
    assert isinstance(done.exception, MultishiftError)
    assert '(did you mean my_street?)' in str(done.exception)


@pytest.mark.parametrize(
    ('line', 'code', 'reason'),
    [
        ('mine = offered:Mine', 'import nowhere_to_be_found', 'ModuleNotFoundError: No module na'),
        ('mine = offered:Other', CODE, "AttributeError: module 'offered' has no attribute 'Oth"),
        ('mine = offered:Mine', 'raise SystemExit(0)', 'SystemExit: 0'),
        ('mine = offered:SCORE', CODE, 'TypeError: method Score\\(.* is no class derived from M'),
        ('mine = offered:Mine', CODE.replace("'mine'", "'multishift'"), 'TypeError: method mult'),
    ],
)
def test_a_broken_package_is_one_line_that_names_it(
    offer: Offer, line: str, code: str, reason: str
) -> None:
    offer({'multishift.methods': line}, code)
    for _ in range(2):  # the second time too
        with pytest.raises(MultishiftError, match=reason) as caught:
            methods.registered()
        said = str(caught.value)
        assert said.startswith('package my-streets offers the method mine (offered:')
        assert said.endswith('mend the package, or `pip uninstall my-streets`')
        assert '\n' not in said


def test_what_is_asked_for_late_is_loaded_early(offer: Offer, tmp_path: Path) -> None:
    """Validation asks for a score, and the manifest of a bundle for backends."""
    from multishift_training.export import check_plan
    from multishift_training.export.plan import Plan
    from multishift_training.loop.train import train

    offer(
        {'multishift.scores': 'mine = offered:Gone', 'multishift.backends': 'mine = offered:Gone'}
    )
    with pytest.raises(MultishiftError, match='package my-streets offers the score mine'):
        train(None, tmp_path / 'run', root=Path())
    assert not (tmp_path / 'run').exists()
    with pytest.raises(MultishiftError, match='package my-streets offers the backend mine'):
        check_plan(Plan())


def test_names_of_every_room_are_read_without_torch() -> None:
    code = (
        'import sys; from multishift_training import methods, models, scores; '
        'from multishift_training.datasets.kinds import kinds; '
        'found = [*methods.METHODS, *models.NAMES, *scores.SCORES, *kinds()]; '
        "sys.exit('torch' in sys.modules or len(found) < 30)"
    )
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0


def test_a_name_is_given_once() -> None:
    registry: Registry[Any] = Registry('thing', 'multishift.nobody', lambda name, found: None)
    first = object()
    registry.add('one', first)
    registry.add('one', first)
    assert dict(registry) == {'one': first}
    with pytest.raises(TypeError, match='thing one is there already'):
        registry.add('one', object())
    # Of two packages with one name for theirs, whose is whose.
    registry.add('two', Lacking)
    with pytest.raises(TypeError, match=rf'\({__name__}\.Lacking\): give builtins\.int another'):
        registry.add('two', int)
    for name in ('', '../one', 'o ne'):
        with pytest.raises(TypeError, match='a name is made of letters'):
            registry.add(name, first)


class Lacking(Method):
    """Has a name alone."""

    kind: Literal['lacking']


class Nameless(Method):
    """Has losses alone."""

    def losses(self, prediction: Any, batch: Any, context: Context) -> dict[str, Any]:
        return {}


def test_what_a_method_lacks_is_named() -> None:
    with pytest.raises(TypeError, match=r'Nameless has no name of its own: declare `kind: Lit'):
        methods.register(Nameless)
    with pytest.raises(TypeError, match='3 is no class derived from Method'):
        methods.register(3)  # type: ignore[type-var]
    with pytest.raises(TypeError, match=r'Lacking \(lacking\) lacks losses: define them'):
        methods.register(Lacking)


class Fitted:
    """What is asked of a FittedScore."""

    @classmethod
    def fitting(cls) -> None:
        """Begin."""


@pytest.mark.parametrize(
    ('score', 'fault'),
    [
        (Score('energy', 'a:b'), 'score energy is there already'),
        (Score('mine', 'a.b'), "score mine: its source is 'a.b', not module:attribute"),
        (Score('mine', 3), 'its source is 3, neither module:attribute nor a function'),  # type: ignore[arg-type]
        (
            Score('mine', Fitted),
            'its source is a FittedScore: say is_fitted=True where it is made',
        ),
        (Score('mine', len, is_fitted=True), 'its source no subclass of FittedScore'),
        (Score('mine', 'a:b', is_fitted=True, has_own_passes=True), 'take one of them'),
        (Score('a/b', 'a:b'), 'a name is made of letters'),
    ],
)
def test_what_is_wrong_with_a_score_is_named(score: Score, fault: str) -> None:
    with pytest.raises(TypeError, match=fault):
        scores.register(score)
