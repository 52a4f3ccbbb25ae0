"""WeChat Pay v3 behind `payments.contract`, through the `wechatpayv3` SDK in public-key mode."""
