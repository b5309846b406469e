using KernelScope.Files;
using static TorchSharp.torch;

namespace KernelScope.Bench.Peers;

/// <summary>A step of training by libtorch, written by hand as a user would without a framework's autograd: five dense products, everything
/// else element by element, buffers used again where libtorch can.</summary>
internal sealed class TorchTraining : IDisposable
{
    private readonly Tensor _rows, _x, _encoder, _decoder, _encoderBias, _decoderBias, _theta;
    private readonly Tensor[] _moments;
    private readonly float _bandwidth, _sparsity;
    private readonly TorchRun _run;

    public TorchTraining(float[] rows, float[] decoder, float threshold, float bandwidth, float sparsity, int count)
    {
        (_bandwidth, _sparsity) = (bandwidth, sparsity);
        int inputs = rows.Length / count, width = decoder.Length / inputs;
        _rows = Torch.Of(rows, count, DType.F32);
        _x = empty_like(_rows);
        _decoder = Torch.Of(decoder, width, DType.F32);
        using (Tensor turned = _decoder.t())
            _encoder = turned.contiguous();
        _encoderBias = zeros(width);
        _decoderBias = zeros(inputs);
        _theta = full(width, threshold);
        _moments = [zeros_like(_encoder), zeros_like(_decoder), zeros_like(_encoderBias), zeros_like(_decoderBias), zeros_like(_theta)];
        _run = new TorchRun(Torch.Name(DType.F32), Step);
    }

    public Contestant Contestant => _run.Contestant;

    public void Dispose()
    {
        _run.Dispose();
        foreach (Tensor tensor in (ReadOnlySpan<Tensor>)[_rows, _x, _encoder, _decoder, _encoderBias, _decoderBias, _theta, .. _moments])
            tensor.Dispose();
    }

    /// <summary>Gives the gradients of b_enc and b_dec.</summary>
    private Tensor Step()
    {
        long count = _rows.shape[0];
        _x.copy_(_rows).sub_(_decoderBias);
        Tensor z = addmm(_encoderBias, _x, _encoder, 1f, 1f);
        Tensor above = z.gt(_theta), near = z.sub(_theta).abs_().lt(_bandwidth / 2);
        Tensor f = z.mul_(above);
        Tensor gx = f.mm(_decoder).sub_(_x).mul_(2f / count);
        Tensor gf = gx.mm(_decoder.t());
        Tensor gTheta = gf.mul(near).sum(0L).mul_(_theta).mul_(-1 / _bandwidth).sub_(near.sum(0L).mul(_sparsity / (count * _bandwidth)));
        Tensor gz = gf.mul_(above);
        Tensor gDecoder = f.t().mm(gx), gEncoder = _x.t().mm(gz), gBias = gz.sum(0L);
        Tensor gDecoderBias = gx.sum(0L).sub_(_encoder.mv(gBias));
        gDecoder.sub_(gDecoder.mul(_decoder).sum(1, keepdim: true).mul(_decoder));
        Tensor[] gradients = [gEncoder, gDecoder, gBias, gDecoderBias, gTheta], parameters = [_encoder, _decoder, _encoderBias,
            _decoderBias, _theta];
        for (int n = 0; n < gradients.Length; n++)
        {
            _moments[n].mul_(0.999f).addcmul_(gradients[n], gradients[n], 0.001f);
            parameters[n].addcdiv_(gradients[n], _moments[n].div(0.001f).sqrt_().add_(1e-8f), -1e-30f);
        }

        _decoder.div_(_decoder.norm(1, keepdim: true));
        return cat([gBias, gDecoderBias]);
    }
}
