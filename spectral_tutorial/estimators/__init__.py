"""The methods that are no neural networks, in scikit-learn's form: ``fit(flux, abundance)``, ``predict(flux)``.

============================ ================================ ==================== ==========================
estimator                    learns from                      knows the physics    needs a combination shown
============================ ================================ ==================== ==========================
:func:`ridge`                training spectra                 no                   no
:class:`WindowedRidge`       training spectra                 the lines' places    no
:class:`BayesianObserver`    which components occur together  yes                  yes, or it denies it
:class:`AnalysisBySynthesis` nothing                          yes                  no
:class:`LogAdditiveDecoder`  spectra of single components     no                   no, and would ignore it
============================ ================================ ==================== ==========================

None is told a noise level or a temperature.
"""

from spectral_tutorial.estimators.decoder import LogAdditiveDecoder
from spectral_tutorial.estimators.inversion import Inversion
from spectral_tutorial.estimators.linear import WindowedRidge, ridge
from spectral_tutorial.estimators.physical import AnalysisBySynthesis, BayesianObserver
from spectral_tutorial.estimators.selection import choose_decoder
