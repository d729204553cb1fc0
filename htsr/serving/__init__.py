"""An exported model behind HTTP and WebSocket: clips in, predictions out, live where frames come one by one.

``limits`` says what is too much and how it is refused, ``model`` runs the SavedModel, ``batching`` computes concurrent
requests together, ``media`` reads and writes clips in the processes of ``workers``, ``live`` has the protocol of
frame-by-frame predictions, ``counters`` what /metrics says, ``app`` the routes, ``server`` the sockets. Needs
``pip install "htsr[serve]"``.
"""
