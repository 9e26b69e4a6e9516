"""Integrands written by users: evaluation, probing into coefficients, and exact derivatives."""

from femadj.forms.integrals import FormBilinear, FormLinear
from femadj.forms.integrand import Integrand
from femadj.forms.probing import Probe, probe

__all__ = ["FormBilinear", "FormLinear", "Integrand", "Probe", "probe"]
