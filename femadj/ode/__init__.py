"""Ordinary differential equations ``y' = f(t, y, theta)``: adaptive steps, and their exact adjoint."""

from femadj.ode.adaptive import Control, Trajectory
from femadj.ode.right_hand_side import RightHandSide
from femadj.ode.runge_kutta import Steps
from femadj.ode.solution import OdeGradient, OdeSolution, odeint

__all__ = ["Control", "OdeGradient", "OdeSolution", "RightHandSide", "Steps", "Trajectory", "odeint"]
