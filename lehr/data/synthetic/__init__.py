"""Generated mathematics and conversations, with train, dev and held-out problems disjoint by construction."""

from lehr.data.synthetic.conversations import ChatExample, Message, conversation
from lehr.data.synthetic.documents import documents
from lehr.data.synthetic.problems import Problem, problem
from lehr.data.synthetic.splits import Split, check_disjoint, split_of

__all__ = ["ChatExample", "Message", "Problem", "Split", "check_disjoint", "conversation", "documents", "problem", "split_of"]
