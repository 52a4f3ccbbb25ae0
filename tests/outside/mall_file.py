"""The site file of the malls that are looked at from outside: shops of one yuan, cut at once."""

SITE = """
[site]
code = "mall"
name = "测试商场"
timezone = "Asia/Shanghai"
poll_seconds = 1

[merchant.wechat]
mchid = "1900000109"
appid = "wx0000000000000001"
apiv3_key_file = "keys/apiv3.txt"
private_key_file = "keys/wechat_merchant.pem"
cert_serial = "33DDFEC51BF5412F663B9B56510FD567B625FC68"
platform_public_key_file = "keys/wechat_platform.pem"
platform_public_key_id = "PUB_KEY_ID_0119000001092026"

[merchant.alipay]
app_id = "2021000000000001"
seller_id = "2088000000000001"
private_key_file = "keys/alipay_app.pem"
alipay_public_key_file = "keys/alipay_platform.pem"

[supply_policy.immediate]
low_balance_fen = [60]
notice_minutes = []
no_disconnect = []

[[tariff]]
code = "flat"
kind = "flat"
price = "1.00"

[[gateway]]
code = "gw-01"
link = "modbus-tcp"
address = "127.0.0.1:{port}"
"""
SHOP = """
[[meter]]
code = "M-{code}"
gateway = "gw-01"
unit = {unit}
profile = "example/demo-relay"
shop = "{code}"

[[shop]]
code = "{code}"
name = "{name}"
tariff = "flat"
supply_policy = "immediate"
binding_code = "482913"
opening_balance_fen = 100
"""
