"""What happens at a point, and the terms of a residual that are made of it."""

from femadj.forms.integral import IntegralTerm
from femadj.forms.integrand import Integrand
from femadj.forms.probed import form_term
from femadj.forms.term import Term, TermAt

__all__ = ["IntegralTerm", "Integrand", "Term", "TermAt", "form_term"]
