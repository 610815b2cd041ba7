[General]
Name=vmsilo
Parent=FALLBACK/

[Scrolling]
HistoryMode=1
HistorySize=10000
